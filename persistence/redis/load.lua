-- Reads a mailbox's copy, if the shard's watermark is high enough. Returns the
-- shard's fill, which may be another than the keys were made for; then, if
-- there is a copy, its fields and values and its blocks of dedup entries.
--
-- KEYS: the mark, the copy, its dedup stream, its rows.
-- ARGV: fill, lowest watermark, expiry in milliseconds.
local mark = redis.call('HMGET', KEYS[1], 'fill', 'watermark')
if mark[1] ~= ARGV[1] then
	return {mark[1] or ''}
end
if not mark[2] or mark[2] < ARGV[2] then
	return {mark[1]}
end
local held = redis.call('HMGET', KEYS[2], 'n', 's', 'p')
if not held[1] then
	return {mark[1]}
end
-- Only a mailbox that the store does not have either, at position zero, has no
-- state.
local absent = not held[2]
if tonumber(held[1]) ~= redis.call('XLEN', KEYS[3]) or absent and (not held[3] or string.find(held[3], '[^0]')) then
	redis.call('DEL', KEYS[2], KEYS[3]) -- the server has taken one of the two, or it is damaged
	return {mark[1]}
end
for _, key in ipairs(KEYS) do
	redis.call('PEXPIRE', key, ARGV[3])
end
if absent then
	return {mark[1]}
end
local blocks = {}
for i, block in ipairs(redis.call('XRANGE', KEYS[3], '-', '+')) do
	blocks[i] = block[2][2]
end
return {mark[1], redis.call('HGETALL', KEYS[2]), blocks}
