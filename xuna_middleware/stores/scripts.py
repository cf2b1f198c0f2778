"""`counting.py` in Lua, for Redis and Valkey: one script for each verb, one round trip each.

Each principal is one hash. A field is one quota: `<ends>:<taken> …`, times in milliseconds of the
server's clock. The field `>` names the hash of the person whom a visitor turned out to be, the
field `~` the notes of reservations that may be settled. A note is a text: what it is about, and a
line for each principal, with the parts that were taken. All keys of a gate stand under one hash
tag, so that a cluster has them on one node, those that are named in a hash or a note included.
"""

from typing import Final

_SHARED: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Whole numbers: as integers where the server has 64-bit ones, which is much faster.
local n = string.format('%d', 2 ^ 40) == '1099511627776' and '%d' or '%.0f'

local function who(key)
  return redis.call('HGET', key, '>') or key
end

local function parse(text, latest)
  local counts, total, soonest, last, brought_near = {}, 0, nil, nil, false
  if text then
    for ends, taken in string.gmatch(text, '(%d+):(%d+)') do
      ends, taken = tonumber(ends), tonumber(taken)
      if ends > now then
        if latest and ends > latest then ends, brought_near = latest, true end
        counts[ends] = (counts[ends] or 0) + taken
        total = total + taken
        if not soonest or ends < soonest then soonest = ends end
        if not last or ends > last then last = ends end
      end
    end
  end
  return counts, total, soonest, last, brought_near
end

local function read(key, field)
  return parse(redis.call('HGET', key, field))
end

local function text_of(counts)
  local parts = {}
  for ends, taken in pairs(counts) do
    parts[#parts + 1] = string.format(n .. ':' .. n, ends, taken)
  end
  return table.concat(parts, ' ')
end

local function write(key, field, counts)
  if next(counts) then
    redis.call('HSET', key, field, text_of(counts))
  else
    redis.call('HDEL', key, field)
  end
end

local function give_back(named, field, mark, amount)
  local key = who(named)
  local counts = read(key, field)
  if counts[mark] then
    counts[mark] = math.max(0, counts[mark] - amount)
    if counts[mark] == 0 then counts[mark] = nil end
    write(key, field, counts)
  end
end

local function names(text)
  local list = {}
  for name in string.gmatch(text or '', '[^ ]+') do list[#list + 1] = name end
  return list
end

local function write_notes(key, list)
  if #list > 0 then
    redis.call('HSET', key, '~', table.concat(list, ' ', math.max(1, #list - 7)))
  else
    redis.call('HDEL', key, '~')
  end
end

local function last_until(key, ends)
  if redis.call('PTTL', key) < ends - now then
    redis.call('PEXPIRE', key, string.format(n, ends - now))
  end
end
"""

#: KEYS: one for each principal; with a move, the last two are the visitor's and the person's. ARGV,
#: one text, since clients write and read one faster than a list: on a line 1 to take or 0 to look,
#: and for how long a move is remembered, 0 without one; then a line for each quota: its key's
#: number, field, kind, most, amount, length and step. Returns 1 or 0, for each quota what is left,
#: when some comes back and the mark; on a second line the notes of those that were refused time or
#: a slot.
RESERVE: Final = (
    _SHARED
    + """
local how, remembered, wishes = string.match(ARGV[1], '^(%d) (%d+)\\n(.*)$')
local taking = how == '1'
remembered = tonumber(remembered)

if remembered > 0 then
  local visitor, person = KEYS[#KEYS - 1], KEYS[#KEYS]
  local ends = redis.call('PTTL', visitor)
  local fields, has_taken = redis.call('HKEYS', visitor), false
  for _, field in ipairs(fields) do
    if field == '>' then
      has_taken = false
      break
    end
    has_taken = has_taken or (field ~= '~' and next((read(visitor, field))) ~= nil)
  end
  if has_taken then
    for _, field in ipairs(fields) do
      if field == '~' then
        local list = names(redis.call('HGET', person, '~'))
        for _, name in ipairs(names(redis.call('HGET', visitor, '~'))) do
          list[#list + 1] = name
        end
        write_notes(person, list)
      else
        local counts = read(visitor, field)
        for at, taken in pairs((read(person, field))) do
          counts[at] = (counts[at] or 0) + taken
        end
        write(person, field, counts)
      end
    end
    last_until(person, now + ends)
    redis.call('DEL', visitor)
    redis.call('HSET', visitor, '>', person)
    redis.call('PEXPIRE', visitor, string.format(n, math.max(ends, remembered)))
  end
end

local quotas, fields, keys, rows = {}, {}, {}, {}
for at, field, kind, most, amount, length, step in
    string.gmatch(wishes, '(%d+) ([^ ]+) (%l+) (%d+) (%d+) (%d+) (%d+)\\n') do
  at = tonumber(at)
  local wanted = fields[at] or {'>'}
  wanted[#wanted + 1] = field
  fields[at] = wanted
  quotas[#quotas + 1] = {at, #wanted, field, kind, tonumber(most), tonumber(amount),
    tonumber(length), tonumber(step)}
end
for at, wanted in pairs(fields) do
  keys[at] = KEYS[at]
  rows[at] = redis.call('HMGET', keys[at], unpack(wanted))
  if rows[at][1] then
    keys[at] = rows[at][1]
    rows[at] = redis.call('HMGET', keys[at], unpack(wanted))
  end
end

local plans, answer, fits, open = {}, {'1'}, true, {}
for i, quota in ipairs(quotas) do
  local at, place, field, kind, most, amount, length, step = unpack(quota)
  local counts, total, soonest, last, brought_near = parse(rows[at][place], now + length + step)
  if taking and brought_near then write(keys[at], field, counts) end
  local mark = now + length
  if step > 0 then
    mark = math.ceil(mark / step) * step
  else
    mark = last or mark
  end
  if most - total < amount then
    fits = false
    if kind ~= 'rate' then open[#open + 1] = redis.call('HGET', keys[at], '~') or nil end
  end
  plans[i] = {counts, mark, most - total, soonest}
end
if not fits then answer[1] = '0' end

local written, latest = {}, {}
for i, quota in ipairs(quotas) do
  local at, field, amount = quota[1], quota[3], quota[6]
  local counts, mark, left, soonest = unpack(plans[i])
  if taking and fits and amount > 0 then
    if not counts[mark] then
      latest[at] = math.max(latest[at] or 0, mark)  -- what was there lasts long enough already
    end
    counts[mark] = (counts[mark] or 0) + amount
    left = left - amount
    if not soonest or mark < soonest then soonest = mark end
    local pairs_of = written[at] or {}
    pairs_of[#pairs_of + 1] = field
    pairs_of[#pairs_of + 1] = text_of(counts)
    written[at] = pairs_of
  end
  answer[#answer + 1] = string.format(n .. ' ' .. n .. ' ' .. n,
    left, soonest and soonest - now or 0, mark)
end
for at, pairs_of in pairs(written) do
  redis.call('HSET', keys[at], unpack(pairs_of))
  if latest[at] then last_until(keys[at], latest[at]) end
end
return table.concat(answer, ' ') .. '\\n' .. table.concat(open, ' ')
"""
)

#: KEYS: one for each part. ARGV: for each part its field, mark and amount.
GIVE_BACK: Final = (
    _SHARED
    + """
for i, named in ipairs(KEYS) do
  give_back(named, ARGV[i * 3 - 2], tonumber(ARGV[i * 3 - 1]), tonumber(ARGV[i * 3]))
end
return 1
"""
)

#: KEYS: the note's, and one for each principal. ARGV: the note's name, text and milliseconds.
REMEMBER: Final = (
    _SHARED
    + """
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
for i = 2, #KEYS do
  local key = who(KEYS[i])
  if redis.call('EXISTS', key) == 1 then
    local list = names(redis.call('HGET', key, '~'))
    list[#list + 1] = ARGV[1]
    write_notes(key, list)
  end
end
return 1
"""
)

#: KEYS: the note's. ARGV: its name, how many milliseconds were used, and what all keys begin with.
#: Returns what it is about.
SETTLE: Final = (
    _SHARED
    + """
local text = redis.call('GET', KEYS[1])
if not text then return false end
redis.call('DEL', KEYS[1])
for line in string.gmatch(text, '\\n([^\\n]+)') do
  local named = ARGV[3] .. string.match(line, '^[^ ]+')
  for field, mark, amount, kind in string.gmatch(line, ' ([^ :]+):(%d+):(%d+):(%l)') do
    amount = tonumber(amount)
    if kind == 't' then amount = amount - tonumber(ARGV[2]) end
    if kind ~= 'r' then give_back(named, field, tonumber(mark), amount) end
  end
  local key, left = who(named), {}
  for _, name in ipairs(names(redis.call('HGET', key, '~'))) do
    if name ~= ARGV[1] then left[#left + 1] = name end
  end
  write_notes(key, left)
end
return string.match(text, '^[^\\n]*')
"""
)
