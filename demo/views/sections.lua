-- The packages of each section of Debian: their number, and the bytes of their downloads.
--
--   db.sections:get()   { admin = { packages = 1234, bytes = 567890 }, … }

return {
  version = 1,

  initial = {},

  reducer = function (sections, package)
    local name = package.section or "(none)"
    local section = sections[name]
    if not section then
      section = {packages = 0, bytes = 0}
      sections[name] = section
    end
    section.packages = section.packages + 1
    section.bytes = section.bytes + (package.size or 0)
    return sections
  end,
}
