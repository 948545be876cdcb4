-- The number of packages of each maintainer.
--
--   db.maintainers:get()    { ["Jane Doe <jane@example.org>"] = 12, … }
--   db.maintainers:top(n)   the n busiest: { { name =, packages = }, … }

return {
  version = 1,

  initial = {},

  reducer = function (counts, package)
    local maintainer = package.maintainer or "(nobody)"
    counts[maintainer] = (counts[maintainer] or 0) + 1
    return counts
  end,

  methods = {top = "async"},

  top = function (view, n)
    local list = {}
    for maintainer, packages in pairs(view:get()) do
      local name = maintainer:gsub("%s*<.*>$", "")
      list[#list + 1] = {name = name, packages = packages}
    end
    table.sort(list, function (a, b)
      if a.packages ~= b.packages then return a.packages > b.packages end
      return a.name < b.name
    end)
    return table.move(list, 1, math.min(n or 10, #list), 1, {})
  end,
}
