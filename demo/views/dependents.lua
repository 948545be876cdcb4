-- The packages that depend on a package: the Depends field, inverted.
--
--   db.dependents:of "libuv1"   { "bind9-libs", "cmake", … }, sorted

return {
  version = 1,

  initial = {},

  reducer = function (dependents, package)
    for _, name in ipairs(package.depends or {}) do
      local list = dependents[name]
      if not list then
        list = {}
        dependents[name] = list
      end
      -- a package with two versions in the index comes twice, the second time right after the first
      if list[#list] ~= package.package then list[#list + 1] = package.package end
    end
    return dependents
  end,

  methods = {of = "async"},

  of = function (view, name)
    local found = view:get()[name] or {}
    local list = table.move(found, 1, #found, 1, {})
    table.sort(list)
    return list
  end,
}
