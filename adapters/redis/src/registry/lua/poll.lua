-- What changed since a position; or, when that is not known any more, everything there is.
-- Returns: milliseconds to the next expiry or -1, whether this is everything, the new position, rows.
local ttl, name, position = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local changes = base .. 'changes:' .. name
sweep(name, ttl)
local first = redis.call('ZRANGE', base .. 'name:' .. name, 0, 0, 'WITHSCORES')
local wake = first[2] and first[2] - now or -1

if position ~= '' then
  local seen = redis.call('XRANGE', changes, position, '+', 'COUNT', 257)
  if seen[1] and seen[1][1] == position then
    keep(changes, ttl)
    local rows = {}
    for i = 2, #seen do
      local field = seen[i][2]
      rows[i - 1] = {field[2], field[4] or '', field[6] or '', field[8] or ''}
    end
    return {wake, 0, seen[#seen][1], rows}
  end
end

local rows = list(name, ttl)
local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)
-- A position must be an entry's, so that the loss of what came after it is noticed. A server without memory takes none:
-- then there is no position, and the next answer is everything again.
local at = last[1] and last[1][1]
if not at then
  at = redis.pcall('XADD', changes, '*', 'op', 'mark')
  if type(at) == 'string' then
    keep(changes, ttl)
  else
    at = ''
  end
end
return {wake, 1, at, rows}
