#!lua flags=no-writes
-- What a user has used, as it is stored; what has left its window is judged by the reader.
-- KEYS: slots, one counter per window; ARGV: now in ms ("" is the clock of Redis)
-- Returns {now, open calls, the fields and values of each counter}
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local answer = {now, redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', now), '+inf')}
for i = 2, #KEYS do answer[i + 1] = redis.call('HGETALL', KEYS[i]) end
return answer
