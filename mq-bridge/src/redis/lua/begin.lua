-- Begins a session, and ends the one that it follows.
-- ARGV: session, its lease in milliseconds, the session before or an empty string.
if ARGV[3] ~= '' then
  redis.call('DEL', P .. 'lease:' .. ARGV[3])
end
redis.call('SET', P .. 'lease:' .. ARGV[1], '', 'PX', ARGV[2])
redis.call('SADD', P .. 'sessions', ARGV[1])
