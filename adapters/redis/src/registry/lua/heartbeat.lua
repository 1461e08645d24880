local id, ttl = ARGV[1], tonumber(ARGV[2])
local name = name_of(id)
if not name then
  return 0
end
redis.call('PEXPIREAT', base .. 'instance:' .. id, text(now + ttl))
-- It was taken off the list of its name, perhaps by a server short of memory; now it is back.
if redis.call('ZADD', base .. 'name:' .. name, text(now + ttl), id) == 1 then
  local record = redis.call('HMGET', base .. 'instance:' .. id, 'at', 'info')
  tell(name, ttl, 'op', 'up', 'id', id, 'at', record[1] or '', 'info', record[2] or '')
end
keep(base .. 'name:' .. name, ttl)
return 1
