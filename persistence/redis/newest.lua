-- Reads the newest rows. Returns the shard's fill, which may be another than the
-- keys were made for; then id and content of each row, newest first.
--
-- KEYS: the mark, the rows.
-- ARGV: fill, last id, most rows.
local fill = redis.call('HGET', KEYS[1], 'fill') or ''
if fill ~= ARGV[1] then
	return {fill}
end
local read = {fill}
for _, row in ipairs(redis.call('XREVRANGE', KEYS[2], ARGV[2], '-', 'COUNT', ARGV[3])) do
	read[#read + 1] = row[1]
	read[#read + 1] = row[2][2]
end
return read
