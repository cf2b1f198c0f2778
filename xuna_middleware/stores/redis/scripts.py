"""`stores/memory/counters.py` in Lua, for Redis and Valkey: one script for each method.

Each principal is one hash. A field is one quota: `<ends>:<taken> …`, times in milliseconds of the
server's clock. The field `>` names the hash of the person whom a visitor became. The field `~`
names the eight oldest reservations that may be settled; a list, whose key is the hash's key and
`~`, has the rest of them in order. A note is a text: its `about`, and a line for each principal
with its charges in base 36, "/" before the amount of a slot and ":" before an amount of time. A
lease is a text: 0, or 1 if it was ended, the time of its end, the marks of its slots, and its
`about` on the next line; one sorted set has the names of all leases, ordered by their ends. A
revocation is the time up to which it reaches. All keys of a gate share one hash tag, so that a
cluster keeps them on one node, including those that are named in a hash or a note.
"""

from typing import Final

from xuna_middleware.stores.pending import MORE, MOST_LISTED, OLDEST, TURN

#: How many open reservations a principal's hash names directly.
_FEW: Final = 8

_FIGURES: Final = f"""
local FEW, MOST_LISTED, OLDEST, MORE, TURN = {_FEW}, {MOST_LISTED}, {OLDEST}, {MORE}, {TURN}
"""

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
  local first, all = next(counts)
  if not next(counts, first) then return string.format(n .. ':' .. n, first, all) end
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

-- Let somebody's hash end when the last of what is still taken does.
local function shorten(key)
  local last, flat = 0, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if flat[i] == '>' then return end
    if flat[i] ~= '~' then
      for ends in string.gmatch(flat[i + 1], '(%d+):') do last = math.max(last, tonumber(ends)) end
    end
  end
  if last > now and redis.call('PTTL', key) > last - now then
    redis.call('PEXPIRE', key, string.format(n, last - now))
  end
end

local function give_back(named, field, mark, amount)
  local key = who(named)
  local counts = read(key, field)
  if counts[mark] then
    counts[mark] = math.max(0, counts[mark] - amount)
    if counts[mark] == 0 then counts[mark] = nil end
    write(key, field, counts)
    if not counts[mark] then shorten(key) end
  end
end

-- Whole milliseconds from now, rounded up as counts of slots are.
local function rounded(length, step)
  return math.ceil((now + length) / step) * step
end

local function is_revoked(key, issued)
  local at = redis.call('GET', key)
  return at and (issued == true or issued <= tonumber(at))
end

local function last_until(key, ends)
  if redis.call('PTTL', key) < ends - now then
    redis.call('PEXPIRE', key, string.format(n, ends - now))
  end
end
"""

_NOTES: Final = (
    _FIGURES
    + _SHARED
    + """
-- A principal's key ends in 22 letters of its own, a note's in its name.
local function is_open(key, name)
  return redis.call('EXISTS', string.sub(key, 1, -23) .. '~' .. name) == 1
end

local function names(text)
  local list = {}
  for name in string.gmatch(text or '', '[^ ]+') do list[#list + 1] = name end
  return list
end

-- What the hash names, as a list and as it is written there. What is over has left the list, and
-- what was next in the longer one has come into its place.
local function few(key)
  local before, list = redis.call('HGET', key, '~') or nil, {}
  for _, name in ipairs(names(before)) do
    if is_open(key, name) then list[#list + 1] = name end
  end
  while before and #list < FEW do
    local name = redis.call('LPOP', key .. '~')
    if not name then break end
    if is_open(key, name) then list[#list + 1] = name end
  end
  return list, before
end

local function write_few(key, list, before)
  local text = table.concat(list, ' ')
  if text == (before or '') then return end
  if text == '' then redis.call('HDEL', key, '~') else redis.call('HSET', key, '~', text) end
end

local function list_notes(key, added, ends)
  local list, before = few(key)
  local more, has_more = key .. '~', false
  for _, name in ipairs(added) do
    if #list < FEW then
      list[#list + 1] = name
    elseif redis.call('LLEN', more) < MOST_LISTED - FEW then
      has_more = redis.call('RPUSH', more, name) > 0
    end
  end
  write_few(key, list, before)
  if has_more then last_until(more, ends) end
end

local function unlist_note(key, name)
  local list, before = few(key)
  if not string.find(' ' .. (before or '') .. ' ', ' ' .. name .. ' ', 1, true) then
    redis.call('LREM', key .. '~', 1, name)
  end
  write_few(key, list, before)
end

local function all_notes(key)
  local list = names(redis.call('HGET', key, '~'))
  for _, name in ipairs(redis.call('LRANGE', key .. '~', 0, -1)) do list[#list + 1] = name end
  return list
end

local function tell_notes(key, open)
  local list, before = few(key)
  write_few(key, list, before)
  local function add(first, last)
    for _, name in ipairs(redis.call('LRANGE', key .. '~', first, last)) do
      if is_open(key, name) then list[#list + 1] = name end
    end
  end
  local oldest = OLDEST - #list
  local pages = math.ceil((redis.call('LLEN', key .. '~') - oldest) / MORE)
  add(0, oldest - 1)
  if pages > 0 then
    local start = oldest + math.floor(now / TURN) % pages * MORE
    add(start, start + MORE - 1)
  end
  for _, name in ipairs(list) do open[#open + 1] = name end
end
"""
)

#: KEYS: one for each principal; with a move, then the visitor's and the person's; with a standing,
#: then its revocation's. ARGV: one JSON, since clients write one text faster than a list, and the
#: server parses it faster than Lua could: 0 to look, 1 to take, or 2 to take and to move; for how
#: long a move is remembered, 0 without one; when the standing's credential was issued, true if
#: unknown, false without one; and for each quota its key's number, field, kind, most, amount,
#: length and step, and held length and step. Returns a text, for the same reason: 1 or 0, for each
#: quota the rest, when some comes back and the mark; on a second line the notes of the principals
#: that were refused time or a slot. Returns - if it is revoked.
RESERVE: Final = (
    _NOTES
    + """
local how, remembered, issued, quotas = unpack(cjson.decode(ARGV[1]))
local taking, others = how > 0, #KEYS

if issued then
  if is_revoked(KEYS[others], issued) then return '-' end
  others = others - 1
end

-- What a visitor took counts as the person's, and becomes it where it is to be moved.
local visitor, person
if remembered > 0 then
  person = KEYS[others]
  if not redis.call('HGET', KEYS[others - 1], '>') then visitor = KEYS[others - 1] end
end

local function move()
  local ends = redis.call('PTTL', visitor)
  local fields, has_taken = redis.call('HKEYS', visitor), false
  for _, field in ipairs(fields) do
    has_taken = has_taken or (field ~= '~' and next((read(visitor, field))) ~= nil)
  end
  if not has_taken then return end
  for _, field in ipairs(fields) do
    if field == '~' then
      list_notes(person, all_notes(visitor), now + math.max(ends, remembered))
    else
      local counts = read(visitor, field)
      for at, taken in pairs((read(person, field))) do
        counts[at] = (counts[at] or 0) + taken
      end
      write(person, field, counts)
    end
  end
  last_until(person, now + ends)
  redis.call('DEL', visitor, visitor .. '~')
  redis.call('HSET', visitor, '>', person)
  redis.call('PEXPIRE', visitor, string.format(n, math.max(ends, remembered)))
end

local fields, places, keys, rows = {}, {}, {}, {}
for i, quota in ipairs(quotas) do
  local at = quota[1]
  local wanted = fields[at] or {'>'}
  wanted[#wanted + 1] = quota[2]
  fields[at], places[i] = wanted, #wanted
end
for at, wanted in pairs(fields) do
  keys[at] = KEYS[at]
  rows[at] = redis.call('HMGET', keys[at], unpack(wanted))
  if rows[at][1] then
    keys[at] = rows[at][1]
    rows[at] = redis.call('HMGET', keys[at], unpack(wanted))
  end
end

local plans, answer, fits, refused, open = {}, {1}, true, {}, {}
for i, quota in ipairs(quotas) do
  local at, field, kind, most, amount, length, step, held, held_step = unpack(quota)
  local counts, total, soonest, last, brought_near = parse(rows[at][places[i]], now + length + step)
  if taking and brought_near then write(keys[at], field, counts) end
  local mark = last or now + length
  if step > 0 then mark = rounded(held, held_step) end
  local is_persons = visitor and how == 1 and KEYS[at] == person
  if is_persons then
    local _, theirs, first = read(visitor, field)
    total = total + theirs
    if first and (not soonest or first < soonest) then soonest = first end
  end
  if most - total < amount then
    fits = false
    if taking and kind ~= 'rate' then
      refused[#refused + 1] = keys[at]
      if is_persons then refused[#refused + 1] = visitor end
    end
  end
  plans[i] = {counts, mark, most - total, soonest}
end
if not fits then answer[1] = 0 end
for _, key in ipairs(refused) do tell_notes(key, open) end
if fits and visitor and how == 2 then move() end

local written, latest = {}, {}
for i, quota in ipairs(quotas) do
  local at, field, amount = quota[1], quota[2], quota[5]
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
  local at_end = #answer
  answer[at_end + 1], answer[at_end + 2] = left, soonest and soonest - now or 0
  answer[at_end + 3] = mark
end
for at, pairs_of in pairs(written) do
  redis.call('HSET', keys[at], unpack(pairs_of))
  if latest[at] then last_until(keys[at], latest[at]) end
end
local figures = string.format(string.rep(n .. ' ', #answer), unpack(answer))
return figures .. '\\n' .. table.concat(open, ' ')
"""
)

#: KEYS: the value's, and one for each quota. ARGV: the value, its milliseconds, and the quotas in
#: one JSON: for each its field, most, amount, length and step. Returns 1, 0 if the key exists,
#: or a text: which quota has too little left, and when some comes back.
PUT: Final = (
    _SHARED
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local quotas, plans = cjson.decode(ARGV[3]), {}
for i, quota in ipairs(quotas) do
  local field, most, amount, length, step = unpack(quota)
  local counts, total, soonest = parse(redis.call('HGET', KEYS[i + 1], field), now + length + step)
  if total + amount > most then
    return string.format(n .. ' ' .. n, i, soonest and soonest - now or length)
  end
  local mark = rounded(length, step)
  counts[mark] = (counts[mark] or 0) + amount
  plans[i] = {field, counts, mark}
end
for i, plan in ipairs(plans) do
  redis.call('HSET', KEYS[i + 1], plan[1], text_of(plan[2]))
  last_until(KEYS[i + 1], plan[3])
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)

#: KEYS: one for each charge. ARGV: for each charge its field, mark and amount.
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
    _NOTES
    + """
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
for i = 2, #KEYS do
  local key = who(KEYS[i])
  if redis.call('EXISTS', key) == 1 then
    list_notes(key, {ARGV[1]}, now + tonumber(ARGV[3]))
  end
end
return 1
"""
)

#: KEYS: the note's. ARGV: its name, how many milliseconds were used, and the prefix of all keys.
#: Returns its `about`.
SETTLE: Final = (
    _NOTES
    + """
local text = redis.call('GET', KEYS[1])
if not text then return false end
redis.call('DEL', KEYS[1])
for line in string.gmatch(text, '\\n([^\\n]+)') do
  local named = ARGV[3] .. string.match(line, '^[^ ]+')
  for field, kind, mark, amount in string.gmatch(line, ' ([^ :/]+)([:/])(%w+)[:/](%w+)') do
    amount = tonumber(amount, 36)
    if kind == ':' then amount = amount - tonumber(ARGV[2]) end
    give_back(named, field, tonumber(mark, 36), amount)
  end
  unlist_note(who(named), ARGV[1])
end
return string.match(text, '^[^\\n]*')
"""
)

_LEASES: Final = (
    _SHARED
    + """
local function lease_at(key)
  local is_ended, times = string.match(redis.call('GET', key) or '', '^(%d) ([^\\n]*)')
  if not is_ended then return nil end
  local lease = {is_ended = is_ended == '1', marks = {}}
  for time in string.gmatch(times, '%d+') do
    time = tonumber(time)
    if lease.ends then lease.marks[#lease.marks + 1] = time else lease.ends = time end
  end
  return lease.ends > now and lease or nil
end

-- Tell all processes; whoever may not only has to wait for their next look.
local function wake(channel)
  redis.pcall('PUBLISH', channel, '')
end
"""
)

#: KEYS: the index of leases; then for each lease its own, with a standing its revocation's, and one
#: for each slot. ARGV: how many the index has at most; then for each lease, in one JSON, its name,
#: length, step, when the standing's credential was issued, as in RESERVE, and a list of each slot's
#: field, mark and amount; and its `about`. Returns a text for each: e, r or -, and the marks.
HOLD: Final = (
    _LEASES
    + """
local function hold(named, field, mark, amount, ends)
  local key = who(named)
  local counts = read(key, field)
  if counts[mark] then
    counts[mark] = math.max(0, counts[mark] - amount)
    if counts[mark] == 0 then counts[mark] = nil end
  end
  counts[ends] = (counts[ends] or 0) + amount
  write(key, field, counts)
  last_until(key, ends)
end

local at, answers = 1, {}
local function next_key()
  at = at + 1
  return KEYS[at]
end

local function answer_to(spec, about)
  local name, length, step, issued, slots = unpack(cjson.decode(spec))
  local key, word = next_key(), '-'
  local lease = lease_at(key)
  if lease and lease.is_ended then word = 'e' end
  if issued and is_revoked(next_key(), issued) then word = 'r' end
  local ends, marks = rounded(length, step), {}
  for place, slot in ipairs(slots) do
    local field, mark, amount = unpack(slot)
    local named = next_key()
    mark = lease and lease.marks[place] or mark
    if word == '-' then
      hold(named, field, mark, amount, ends)
      mark = ends
    end
    marks[place] = string.format(n, mark)
  end
  marks = table.concat(marks, ' ')
  if word == '-' then
    local until_then = string.format(n, now + length)
    redis.call('SET', key, '0 ' .. until_then .. ' ' .. marks .. '\\n' .. about, 'PX', length)
    redis.call('ZADD', KEYS[1], until_then, name)
    last_until(KEYS[1], now + length)
  end
  return word .. ' ' .. marks
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format(n, now))
for i = 2, #ARGV, 2 do answers[#answers + 1] = answer_to(ARGV[i], ARGV[i + 1]) end
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end
return answers
"""
)

#: KEYS: the index, the lease's, and one for each slot. ARGV: the name, and for each slot its field,
#: mark and amount.
LET_GO: Final = (
    _LEASES
    + """
local lease = lease_at(KEYS[2])
if not lease then return 0 end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
for i = 1, #KEYS - 2 do
  local mark = lease.marks[i] or tonumber(ARGV[i * 3])
  give_back(KEYS[i + 2], ARGV[i * 3 - 1], mark, tonumber(ARGV[i * 3 + 1]))
end
return 1
"""
)

#: KEYS: the index. ARGV: how many names to return at most.
LEASES: Final = (
    _SHARED
    + """
return redis.call(
  'ZRANGEBYSCORE', KEYS[1], string.format('(' .. n, now), '+inf', 'LIMIT', 0, ARGV[1])
"""
)

#: KEYS: the lease's. ARGV: the channel. Returns 1, or 0 if there is no such lease.
END: Final = (
    _LEASES
    + """
if not lease_at(KEYS[1]) then return 0 end
redis.call('SETRANGE', KEYS[1], 0, '1')
wake(ARGV[1])
return 1
"""
)

#: KEYS: the revocation's. ARGV: the time it reaches, its milliseconds, and the channel.
REVOKE: Final = (
    _LEASES
    + """
local at, kept = ARGV[1], redis.call('GET', KEYS[1])
if kept and tonumber(kept) > tonumber(at) then at = kept end
local lasting = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]))
redis.call('SET', KEYS[1], at, 'PX', string.format(n, lasting))
wake(ARGV[3])
return 1
"""
)
