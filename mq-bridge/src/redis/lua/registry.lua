-- What has changed of the patterns with wildcards.
-- ARGV: the version that is known.
-- Gives the version, whether all patterns follow, and name and patterns by turns.
local version = redis.call('GET', P .. 'version') or '0'
local log = redis.call('XRANGE', P .. 'log', '(' .. ARGV[1] .. '-0', '+')
if #log ~= tonumber(version) - tonumber(ARGV[1]) then
  return { version, 1, redis.call('HGETALL', P .. 'wild') }
end
local changes = {}
for _, entry in ipairs(log) do
  changes[#changes + 1] = entry[2][1]
  changes[#changes + 1] = entry[2][2]
end
return { version, 0, changes }
