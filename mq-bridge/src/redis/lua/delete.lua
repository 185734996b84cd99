-- Removes a source with all that it keeps.
-- ARGV: source.
local source = ARGV[1]
if not declared(source) then
  return
end
local patterns = redis.call('HGET', P .. 'm:' .. source, 'patterns') or ''
local name, wild = source:sub(3), false
for pattern in patterns:gmatch('[^\n]+') do
  if pattern:find('[*#]') then
    wild = true
  else
    redis.call('SREM', P .. 'x:' .. pattern, name)
  end
end
if wild then
  set_wild(name, {})
end
local consumers = redis.call('SMEMBERS', P .. 'c:' .. source)
for _, consumer in ipairs(consumers) do
  redis.call('SREM', P .. 's:' .. consumer:match('^[^.]*'), consumer .. '\n' .. source)
end
if redis.call('SREM', P .. 'sharing', source) == 1 then
  -- What its entries share is found out later, little by little.
  local trash = 'T:' .. redis.call('INCR', P .. 'bodies')
  redis.call('RENAME', P .. source, P .. trash)
  redis.call('SADD', P .. 'trash', trash)
end
redis.call('UNLINK', P .. source, P .. 'm:' .. source, P .. 'c:' .. source)
notify(source, 'd' .. table.concat(consumers, '\n'))
