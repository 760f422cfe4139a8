-- Makes a mailbox's copy, if the shard's mark is still what the owner last saw
-- and there is none. Returns 1, or 0 when the mark is another.
--
-- KEYS: the mark, the copy, its dedup stream.
-- ARGV: fill, watermark, write, expiry in milliseconds, number of dedup entries,
-- number of blocks that they come in; then id and content of each block, in
-- order; then fields and values of the copy.
local mark = redis.call('HMGET', KEYS[1], 'fill', 'watermark', 'write')
if mark[1] ~= ARGV[1] or mark[2] ~= ARGV[2] or mark[3] ~= ARGV[3] then
	return 0
end
local copy, dedup, expiry, blocks = KEYS[2], KEYS[3], ARGV[4], tonumber(ARGV[6])
local blocks_held = redis.call('HGET', copy, 'n')
if blocks_held and tonumber(blocks_held) == redis.call('XLEN', dedup) then
	return 1
end
-- A server without memory refuses a script's first write, if it is one that may
-- take memory, and none after it. This one changes nothing.
redis.call('HSET', KEYS[1], 'fill', ARGV[1])

redis.call('DEL', copy, dedup)
local argument = 7
for _ = 1, blocks do
	redis.call('XADD', dedup, ARGV[argument], 'e', ARGV[argument + 1])
	argument = argument + 2
end
while argument <= #ARGV do
	redis.call('HSET', copy, unpack(ARGV, argument, math.min(argument + 999, #ARGV)))
	argument = argument + 1000
end
redis.call('HSET', copy, 'n', ARGV[6], 'd', ARGV[5])
redis.call('PEXPIRE', copy, expiry)
redis.call('PEXPIRE', dedup, expiry)
redis.call('PEXPIRE', KEYS[1], expiry)
return 1
