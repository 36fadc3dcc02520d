#!lua flags=allow-oom
-- Ends or takes back one admitted call: changes each counter in the bucket of admission and gives the slot back.
-- It may run when memory is short: it adds no key, and takes more than it brings.
-- A bucket that is gone has left its window, and its correction with it.
-- KEYS: slots, one counter per rule that changes, then the idempotency mark if it is to be taken back
-- ARGV: request id, then bucket index and change for each rule
local request = ARGV[1]
local rules = (#ARGV - 1) / 2
for i = 1, rules do
  local key, index, change = KEYS[i + 1], ARGV[i * 2], ARGV[i * 2 + 1]
  local amount = redis.call('HGET', key, index)
  if amount then
    -- Never below zero: the counter may have been cleared and begun again since. (0 - x, because -0 prints as "-0".)
    if tonumber(change) + tonumber(amount) < 0 then change = string.format('%.0f', 0 - amount) end
    redis.call('HINCRBY', key, index, change)
    redis.call('HINCRBY', key, 't', change)
  end
end
redis.call('ZREM', KEYS[1], request)
local mark = KEYS[rules + 2]
if mark and redis.call('GET', mark) == request then redis.call('DEL', mark) end
return 1
