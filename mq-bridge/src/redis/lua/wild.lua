-- Says which patterns with wildcards a durable subscription has.
local function set_wild(name, patterns)
  local wild = {}
  for _, pattern in ipairs(patterns) do
    if pattern:find('[*#]') then
      wild[#wild + 1] = pattern
    end
  end
  local text = table.concat(wild, '\n')
  if text == '' then
    redis.call('HDEL', P .. 'wild', name)
  else
    redis.call('HSET', P .. 'wild', name, text)
  end
  local version = redis.call('INCR', P .. 'version')
  redis.call('XADD', P .. 'log', 'MAXLEN', '~', 1000, version .. '-0', name, text)
end
