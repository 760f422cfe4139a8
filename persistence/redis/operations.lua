-- Reads rows. Returns the shard's fill, which may be another than the keys were
-- made for; then id and content of each row.
--
-- KEYS: the mark, the rows.
-- ARGV: fill, lowest watermark, expiry in milliseconds, first and last id, most
-- rows, most bytes, which are those of the data behind the peer (its length,
-- below 128 in one byte, and name).
local mark = redis.call('HMGET', KEYS[1], 'fill', 'watermark')
local fill = mark[1] or ''
if fill ~= ARGV[1] or fill == '' or not mark[2] or mark[2] < ARGV[2] then
	return {fill}
end
local read, from = {fill}, ARGV[4]
local limit, bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
-- By pages, since only the rows tell how long they are. The first is small: a
-- row may have many kilobytes.
local page = 16
while limit > 0 and bytes >= 0 do
	page = math.min(page, limit)
	local rows = redis.call('XRANGE', KEYS[2], from, ARGV[5], 'COUNT', page)
	if #read == 1 and (not rows[1] or rows[1][1] ~= ARGV[4]) then
		return read -- of no use to the caller: the first is missing
	end
	for _, row in ipairs(rows) do
		read[#read + 1] = row[1]
		read[#read + 1] = row[2][2]
		local peer = string.byte(row[2][2]) or 128 -- a row without content is damaged
		bytes = bytes - #row[2][2] + (peer < 128 and peer + 1 or 0)
		if bytes < 0 then
			break
		end
	end
	if #rows < page then
		break
	end
	from = '(' .. rows[#rows][1]
	limit, page = limit - page, 4 * page
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return read
