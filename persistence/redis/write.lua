-- Writes a batch, if the shard's mark is still what the writer last saw.
-- Returns 1, or 0 when it is not and nothing was written.
--
-- KEYS: the mark; then for each mailbox its copy, its dedup stream, its rows.
-- ARGV: fill, watermark and write that the writer saw, the new ones,
-- expiry in milliseconds, most rows, most dedup entries; then for each mailbox
-- the arguments that are taken below, in that order.
--
-- Positions and times are decimal digits of a fixed width, which compare as
-- numbers do; revisions are decimal digits without leading zeros. Neither is
-- ever a Lua number, which is a double.
local mark = redis.call('HMGET', KEYS[1], 'fill', 'watermark', 'write')
if mark[1] ~= ARGV[1] or mark[2] ~= ARGV[2] or mark[3] ~= ARGV[3] then
	return 0
end
-- A server without memory refuses a script's first write, if it is one that may
-- take memory, and none after it. This one changes nothing.
redis.call('HSET', KEYS[1], 'fill', ARGV[1])

local expiry = ARGV[6]
local max_rows, max_dedup = ARGV[7], tonumber(ARGV[8])

local argument = 8
local function take()
	argument = argument + 1
	return ARGV[argument]
end

local function older(revision, other)
	if #revision ~= #other then
		return #revision < #other
	end
	return revision < other
end

local function revision_of(id)
	return string.match(id, '^%d+')
end

-- newest_row returns the newest revision that a stream of rows has had, or nil.
local function newest_row(rows)
	local last = redis.call('XREVRANGE', rows, '+', '-', 'COUNT', 1)[1]
	if last then
		return revision_of(last[1])
	end
	if redis.call('EXISTS', rows) == 0 then
		return nil
	end
	local info = redis.call('XINFO', 'STREAM', rows) -- its rows were all trimmed
	for i = 1, #info, 2 do
		if info[i] == 'last-generated-id' then
			return revision_of(info[i + 1])
		end
	end
end

-- write_rows takes: the oldest revision kept and the one before it, both empty
-- for none; the number of rows; if there are any, the revision before the first;
-- then revision and content of each. They are in order, without a gap.
local function write_rows(rows)
	local first, before_first, n = take(), take(), tonumber(take())
	local newest = nil
	if first ~= '' or n > 0 then
		newest = newest_row(rows)
	end
	if newest and first ~= '' then
		redis.call('XTRIM', rows, 'MINID', first)
		if older(newest, before_first) then
			-- Older rows that are written again stay away.
			redis.call('XSETID', rows, before_first .. '-0')
			newest = before_first
		end
	end
	if n == 0 then
		return
	end
	local before = take()
	if newest and older(newest, before) then
		-- Rows are missing in between: those before them are of no use.
		redis.call('DEL', rows)
		newest = nil
	end
	for i = 1, n do
		local revision, content = take(), take()
		if not newest or older(newest, revision) then
			redis.call('XADD', rows, 'MAXLEN', '~', max_rows, revision .. '-0', 'r', content)
		end
	end
	redis.call('PEXPIRE', rows, expiry)
end

-- write_copy takes: position, state; the time below which dedup entries go and
-- that of the newest one; the number of dedup entries; if there are any, the
-- id for them; then position and content of each, in order; the number of
-- sources; then field and position of each; the number of parts; then field,
-- position and content, empty when it was removed, of each.
local function write_copy(copy, dedup)
	local position, state, cutoff, time, n = take(), take(), take(), take(), tonumber(take())
	local id = n > 0 and take()
	local entries = argument
	argument = argument + 2 * n
	local m = tonumber(take())
	local sources = argument
	argument = argument + 2 * m
	local k = tonumber(take())
	local parts = argument
	argument = argument + 3 * k

	local held = redis.call('HMGET', copy, 'p', 'n', 'd')
	if not held[1] then
		return
	end
	if held[1] >= position then
		return
	end
	-- Were the stream taken by the server, its length would stay below what is
	-- counted here, and no load would take the copy for whole.
	local blocks, count = tonumber(held[2]), tonumber(held[3])

	local added = {}
	for i = 1, n do
		if ARGV[entries + 2 * i - 1] > held[1] then
			added[#added + 1] = ARGV[entries + 2 * i]
		end
	end
	if #added > 0 then
		redis.call('XADD', dedup, id, 'e', time .. table.concat(added))
		blocks, count = blocks + 1, count + #added
		-- Loads pass over old entries: that they take no space is seen to now
		-- and then, for twice as many blocks as came in meanwhile.
		for _ = 1, (blocks % 16 == 0 or count > max_dedup) and 32 or 0 do
			local oldest = redis.call('XRANGE', dedup, '-', '+', 'COUNT', 1)[1]
			if string.sub(oldest[2][2], 1, #cutoff) >= cutoff then
				break
			end
			redis.call('XDEL', dedup, oldest[1])
			blocks, count = blocks - 1, count - (#oldest[2][2] - #cutoff) / 61
		end
		if count > max_dedup then
			redis.call('DEL', copy, dedup)
			return
		end
	end
	redis.call('PEXPIRE', dedup, expiry)

	local fields = {'p', position, 's', state, 'n', blocks, 'd', count}
	for i = 1, m do
		local field, taken = ARGV[sources + 2 * i - 1], ARGV[sources + 2 * i]
		local known = redis.call('HGET', copy, field)
		if not known or known < taken then
			fields[#fields + 1] = field
			fields[#fields + 1] = taken
		end
		if #fields >= 1000 then
			redis.call('HSET', copy, unpack(fields))
			fields = {'p', position}
		end
	end
	redis.call('HSET', copy, unpack(fields))
	for i = 1, k do
		local field, changed, content = ARGV[parts + 3 * i - 2], ARGV[parts + 3 * i - 1], ARGV[parts + 3 * i]
		if changed > held[1] then
			if content == '' then
				redis.call('HDEL', copy, field)
			else
				redis.call('HSET', copy, field, content)
			end
		end
	end
	redis.call('PEXPIRE', copy, expiry)
end

for key = 2, #KEYS, 3 do
	write_copy(KEYS[key], KEYS[key + 1])
	write_rows(KEYS[key + 2])
end
-- Last: were the script to fail half-way, what it has written is ahead of the
-- watermark, which says nothing of what lies above it.
redis.call('HSET', KEYS[1], 'watermark', ARGV[4], 'write', ARGV[5])
redis.call('PEXPIRE', KEYS[1], expiry)
return 1
