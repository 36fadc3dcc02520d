#!lua
-- Decides about one call: everything is checked first, and only if everything allows it is anything counted.
-- The first line makes a Redis that is out of memory refuse to begin, instead of stopping half way.
-- The windows are specified by rate.py. Counters are hashes: t total, o oldest and n newest bucket, and a field per bucket.
-- KEYS: slots, one counter per rule, then the idempotency mark if the call has one
-- ARGV: now in ms ("" is the clock of Redis), request id, concurrency, slot life, concurrency wait, mark life (ms);
--       then limit, cost, seconds for each rule
-- Returns {1, now, used and bucket index for each rule}, {0, rule (0 is concurrency), used, wait in ms (-1 is never)}
--      or {2, earlier request id}
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local slots, request, concurrency = KEYS[1], ARGV[2], tonumber(ARGV[3])
local rules = (#ARGV - 6) / 3
local mark = KEYS[rules + 2]

-- Lua prints numbers of 1e14 and more with an exponent, which is another field, or no number at all, to Redis.
local function text(number)
  return string.format('%.0f', number)
end

local function buckets(key, first, last)
  local names = {}
  for index = first, last do names[#names + 1] = text(index) end
  return names, redis.call('HMGET', key, unpack(names))
end

-- Drops the buckets from oldest up to (without) live; returns what they held.
local function prune(key, oldest, live)
  local names, amounts = buckets(key, oldest, live - 1)
  local gone, sum = {}, 0
  for i, amount in ipairs(amounts) do
    if amount then
      gone[#gone + 1] = names[i]
      sum = sum + tonumber(amount)
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  redis.call('HSET', key, 't', text(tonumber(redis.call('HGET', key, 't')) - sum), 'o', text(live))
  return sum
end

-- The state of one rule, without what has left its window.
local function load(key, limit, cost, seconds)
  local rule = {key = key, limit = tonumber(limit), cost = cost, span = seconds * 1000, total = 0}
  rule.width = math.floor((seconds * 50 + 2) / 3)
  rule.index = math.floor(now / rule.width)
  local head = redis.call('HMGET', key, 't', 'o', 'n')
  if not head[1] then return rule end
  local oldest, newest = tonumber(head[2]), tonumber(head[3])
  local live = math.floor((math.max(now, newest * rule.width) - rule.span) / rule.width)
  if newest < live then
    redis.call('DEL', key)
    return rule
  end
  rule.total, rule.oldest, rule.newest = tonumber(head[1]), oldest, newest
  -- A clock that steps back must not open older buckets.
  rule.index = math.max(rule.index, newest)
  if oldest < live then
    rule.total = rule.total - prune(key, oldest, live)
    rule.oldest = live
  end
  return rule
end

-- The smallest wait after which the cost of the rule fits.
local function wait(rule)
  local excess = rule.total + rule.cost - rule.limit
  local _, amounts = buckets(rule.key, rule.oldest, rule.newest)
  for i, amount in ipairs(amounts) do
    excess = excess - (tonumber(amount) or 0)
    if excess <= 0 then return (rule.oldest + i) * rule.width + rule.span - now end
  end
end

local function spend(rule)
  redis.call('HINCRBY', rule.key, 't', rule.cost)
  redis.call('HINCRBY', rule.key, text(rule.index), rule.cost)
  if rule.index ~= rule.newest then
    redis.call('HSET', rule.key, 'n', text(rule.index), 'o', text(rule.oldest or rule.index))
    redis.call('PEXPIRE', rule.key, text(rule.span + rule.width))
  end
end

local earlier = mark and redis.call('GET', mark)
if earlier then return {2, earlier} end
redis.call('ZREMRANGEBYSCORE', slots, '-inf', text(now))
if redis.call('ZSCORE', slots, request) then return {2, request} end

local refusal, longest = nil, 0
if concurrency > 0 then
  local open = redis.call('ZCARD', slots)
  if open >= concurrency then
    longest = tonumber(ARGV[5])
    refusal = {0, 0, open, longest}
  end
end
local loaded = {}
for i = 1, rules do
  local at = 4 + i * 3
  local rule = load(KEYS[i + 1], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]))
  loaded[i] = rule
  local cost = tonumber(rule.cost)
  if cost > rule.limit then
    if longest < math.huge then refusal, longest = {0, i, rule.total, -1}, math.huge end
  elseif rule.total + cost > rule.limit and longest < math.huge then
    local needed = wait(rule)
    if needed > longest then refusal, longest = {0, i, rule.total, needed}, needed end
  end
end
if refusal then return refusal end

local answer = {1, now}
for i, rule in ipairs(loaded) do
  spend(rule)
  answer[i * 2 + 1] = rule.total + rule.cost
  answer[i * 2 + 2] = rule.index
end
redis.call('ZADD', slots, text(now + ARGV[4]), request)
redis.call('PEXPIRE', slots, ARGV[4])
if mark then redis.call('SET', mark, request, 'PX', ARGV[6]) end
return answer
