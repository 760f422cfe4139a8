-- Takes out what the filling has of a mailbox. Returns the shard's fill, which
-- may be another than the keys were made for.
--
-- KEYS: the mark, the copy, its dedup stream, its rows.
-- ARGV: fill.
local fill = redis.call('HGET', KEYS[1], 'fill') or ''
if fill == ARGV[1] and fill ~= '' then
	redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
end
return {fill}
