#!lua
-- Decides about one call: everything is checked first, and only if everything allows it is anything counted.
-- The first line makes a Redis that is out of memory refuse to begin, instead of stopping half way.
-- The windows are specified by rate.py. Counters are hashes: t total, o oldest and n newest bucket, and a field per bucket.
-- KEYS: slots, one counter per rule, then the idempotency mark if the call has one
-- ARGV: slot life, concurrency wait, mark life (ms), concurrency, limit and seconds for each rule;
--       then now in ms ("" is the clock of Redis), request id, and the cost for each rule
-- Returns {1, now, used and bucket index for each rule}, {0, rule (0 is concurrency), used, wait in ms (-1 is never)}
--      or {2, earlier request id}
local call, floor, format = redis.call, math.floor, string.format
local rules = (#ARGV - 6) / 3
local told = 4 + rules * 2
local now = tonumber(ARGV[told + 1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end
local slots, mark, request, concurrency = KEYS[1], KEYS[rules + 2], ARGV[told + 2], tonumber(ARGV[4])

-- Numbers are handed over as text: of 1e14 and more, and some round ones, Lua's own or that of Redis has an exponent.
local function buckets(key, first, last)
  local names = {}
  for index = first, last do names[#names + 1] = format('%.0f', index) end
  return names, call('HMGET', key, unpack(names))
end

-- Drops the buckets from oldest up to (without) live; returns what is left of the total.
local function prune(key, oldest, live, total)
  local names, amounts = buckets(key, oldest, live - 1)
  local gone = {}
  for i, amount in ipairs(amounts) do
    if amount then
      gone[#gone + 1] = names[i]
      total = total - tonumber(amount)
    end
  end
  if #gone > 0 then call('HDEL', key, unpack(gone)) end
  call('HSET', key, 't', format('%.0f', total), 'o', format('%.0f', live))
  return total
end

-- The smallest wait after which what is too much has left the window.
local function wait(key, oldest, newest, excess, width, span)
  local _, amounts = buckets(key, oldest, newest)
  for i, amount in ipairs(amounts) do
    excess = excess - (tonumber(amount) or 0)
    if excess <= 0 then return (oldest + i) * width + span - now end
  end
end

local earlier = mark and call('GET', mark)
if earlier then return {2, earlier} end
call('ZREMRANGEBYSCORE', slots, '-inf', format('%.0f', now))

local refusal, longest = nil, 0
if concurrency > 0 then
  local open = call('ZCARD', slots)
  if open >= concurrency then
    longest = tonumber(ARGV[2])
    refusal = {0, 0, open, longest}
  end
end
-- By rule: the total with its cost, the bucket of the cost, and the oldest and the newest bucket so far.
local totals, indices, oldests, newests = {}, {}, {}, {}
for i = 1, rules do
  local key, cost = KEYS[i + 1], tonumber(ARGV[told + 2 + i])
  local limit, seconds = tonumber(ARGV[3 + i * 2]), tonumber(ARGV[4 + i * 2])
  local width, span = floor((seconds * 50 + 2) / 3), seconds * 1000
  local index = floor(now / width)
  local head = call('HMGET', key, 't', 'o', 'n')
  local total = 0
  if head[1] then
    local oldest, newest = tonumber(head[2]), tonumber(head[3])
    local live = floor((math.max(now, newest * width) - span) / width)
    if newest < live then
      call('DEL', key)
    else
      total = tonumber(head[1])
      -- A clock that steps back must not open older buckets.
      if newest > index then index = newest end
      if oldest < live then
        total = prune(key, oldest, live, total)
        oldest = live
      end
      oldests[i], newests[i] = oldest, newest
    end
  end
  if cost > limit then
    if longest < math.huge then refusal, longest = {0, i, total, -1}, math.huge end
  elseif total + cost > limit and longest < math.huge then
    local needed = wait(key, oldests[i], newests[i], total + cost - limit, width, span)
    if needed > longest then refusal, longest = {0, i, total, needed}, needed end
  end
  totals[i], indices[i] = total + cost, index
end
if refusal then return call('ZSCORE', slots, request) and {2, request} or refusal end

if call('ZADD', slots, 'NX', format('%.0f', now + ARGV[1]), request) == 0 then return {2, request} end
call('PEXPIRE', slots, ARGV[1])
local answer = {1, now}
for i = 1, rules do
  local key, index, cost = KEYS[i + 1], indices[i], ARGV[told + 2 + i]
  local bucket = format('%.0f', index)
  call('HINCRBY', key, 't', cost)
  call('HINCRBY', key, bucket, cost)
  if index ~= newests[i] then
    local seconds = tonumber(ARGV[4 + i * 2])
    call('HSET', key, 'n', bucket, 'o', oldests[i] and format('%.0f', oldests[i]) or bucket)
    call('PEXPIRE', key, format('%.0f', seconds * 1000 + floor((seconds * 50 + 2) / 3)))
  end
  answer[i * 2 + 1], answer[i * 2 + 2] = totals[i], index
end
if mark then call('SET', mark, request, 'PX', ARGV[3]) end
return answer
