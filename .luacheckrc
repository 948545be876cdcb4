std = "lua54"
max_line_length = 120
files["tests"] = {std = "lua54+busted"}
files["examples/lua/with_busted_spec.lua"] = {std = "lua54+busted"}
files["demo"] = {std = "lua54"}
files["lua/flume/meta.lua"] = {ignore = {"212", "241"}} -- declarations alone
