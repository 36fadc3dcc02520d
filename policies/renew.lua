#!lua flags=allow-oom
-- Keeps the slots of running calls of one user. A slot that has freed itself, or whose call has ended, stays free.
-- KEYS: slots; ARGV: now in ms ("" is the clock of Redis), slot life in ms, request ids
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local expiry = string.format('%.0f', now + ARGV[2])
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], 'XX', expiry, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
