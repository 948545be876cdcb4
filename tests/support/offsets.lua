-- The framing of flumelog-offset files: where the records are, by that alone.
--
--   offsets.framed(values [, bits])  a file of these records, as the original writes it
--   offsets.read(path [, bits])     list of {off =, bytes =}, and the length of the file
--   offsets.of(log)                 at(n), number(seq): from ordinals to the seqs of a log over such a file, and back

local M = {}

local POINTER_BYTES = {[32] = 4, [48] = 6, [53] = 8}

function M.framed(values, bits)
  local pointer_bytes = POINTER_BYTES[bits or 32]
  local parts, at = {}, 0
  for i, value in ipairs(values) do
    at = at + 8 + #value + pointer_bytes
    parts[i] = string.pack(">s4I4I" .. pointer_bytes, value, #value, at)
  end
  return table.concat(parts)
end

function M.read(path, bits)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "a"
  file:close()
  local pointer_bytes = POINTER_BYTES[bits or 32]
  local list, at = {}, 1
  while at <= #bytes do
    local value, behind = string.unpack(">s4", bytes, at)
    local length, pointer, next_at = string.unpack(">I4I" .. pointer_bytes, bytes, behind)
    assert(length == #value and pointer == next_at - 1, "the framing is wrong")
    list[#list + 1] = {off = at - 1, bytes = value}
    at = next_at
  end
  return list, #bytes
end

-- Ordinal n is the record number n, or what will be the next one; what lies beyond both ends stays there.
function M.of(log)
  local path = log.dir:gsub("%.flume$", "")
  local function at(n)
    local list, length = M.read(path)
    if n < 0 then return n end
    return list[n + 1] and list[n + 1].off or n == #list and length or math.max(n, length + 1)
  end
  local function number(seq)
    if seq == nil or seq < 0 then return seq end
    for i, record in ipairs((M.read(path))) do
      if record.off == seq then return i - 1 end
    end
    error(("no record begins at %d"):format(seq))
  end
  return at, number
end

return M
