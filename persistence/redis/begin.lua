-- Starts a filling: the keys of the one before are not read again.
--
-- KEYS: the mark.
-- ARGV: fill, watermark, expiry in milliseconds.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
	redis.call('DEL', KEYS[1]) -- it is damaged: nothing could be set in it
end
redis.call('HSET', KEYS[1], 'fill', ARGV[1], 'watermark', ARGV[2], 'write', '')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
