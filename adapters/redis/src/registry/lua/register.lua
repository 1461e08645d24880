local id, ttl, name, info = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local at = time[1] .. string.format('%06d', time[2])
local instance = base .. 'instance:' .. id
sweep(name, ttl)
redis.call('HSET', instance, 'name', name, 'at', at, 'info', info)
redis.call('PEXPIREAT', instance, text(now + ttl))
redis.call('ZADD', base .. 'name:' .. name, text(now + ttl), id)
keep(base .. 'name:' .. name, ttl)
tell(name, ttl, 'op', 'up', 'id', id, 'at', at, 'info', info)
return at
