-- What every script of the registry begins with. All keys have one hash tag, so that a cluster keeps them together:
--   instance:<id>  hash of name, at (microseconds), info (JSON); lives as long as the registration
--   name:<name>    sorted set: the ids of a name by the millisecond in which they expire
--   changes:<name> stream: the last changes of a name, for watches
-- Numbers are text, since those of scripts print inexactly.
local base = '{cqi-registry}:'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number)
  return string.format('%.0f', number)
end

-- Lets a key live for a while; another registry with a shorter time to live does not shorten that.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, text(ttl * 2))
  end
end

-- Appends to the changes and returns the position. Without the right to publish, watches notice a little later.
local function tell(name, ttl, ...)
  local key = base .. 'changes:' .. name
  local position = redis.call('XADD', key, 'MAXLEN', 256, '*', ...)
  keep(key, ttl)
  redis.pcall('PUBLISH', base .. 'bell', name)
  return position
end

local function remove(name, id, ttl)
  redis.call('DEL', base .. 'instance:' .. id)
  if redis.call('ZREM', base .. 'name:' .. name, id) == 1 then
    tell(name, ttl, 'op', 'down', 'id', id)
  end
end

-- Removes what has expired under a name, in the order in which it did.
local function sweep(name, ttl)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'name:' .. name, '-inf', text(now))) do
    remove(name, id, ttl)
  end
end

-- The live instances. One whose record is gone or was overwritten is removed; its owner then registers it again.
local function list(name, ttl)
  sweep(name, ttl)
  local rows = {}
  for _, id in ipairs(redis.call('ZRANGE', base .. 'name:' .. name, 0, -1)) do
    local record = redis.pcall('HMGET', base .. 'instance:' .. id, 'at', 'info')
    if record.err or not record[1] or not record[2] then
      remove(name, id, ttl)
    else
      rows[#rows + 1] = {id, record[1], record[2]}
    end
  end
  return rows
end

-- The name of a live instance, or nil.
local function name_of(id)
  local name = redis.pcall('HGET', base .. 'instance:' .. id, 'name')
  return type(name) == 'string' and name or nil
end

