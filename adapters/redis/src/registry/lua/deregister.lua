local id, ttl = ARGV[1], tonumber(ARGV[2])
local name = name_of(id)
if not name then
  return 0
end
remove(name, id, ttl)
return 1
