-- Makes a consumer.
-- ARGV: source, consumer, `takeover` or `compete`, the generation that it had before, or an empty
-- string.
-- Gives its generation, max and dead; or why there can be none.
local source, consumer, before = ARGV[1], ARGV[2], ARGV[4]
local meta = P .. 'm:' .. source
local generation = redis.call('HGET', meta, 'generation')
if not generation then
  return 'missing'
end
if before ~= '' and before ~= generation then
  return 'taken over'
end
local failure = make_stream(source)
if failure then
  return failure
end
if before == '' and ARGV[3] == 'takeover' then
  local older = redis.call('SMEMBERS', P .. 'c:' .. source)
  for _, one in ipairs(older) do
    remove(source, one)
  end
  generation = tostring(redis.call('HINCRBY', meta, 'generation', 1))
  if #older > 0 then
    notify(source, 'o' .. table.concat(older, '\n'))
  end
end
redis.call('SADD', P .. 'c:' .. source, consumer)
redis.call('SADD', P .. 's:' .. consumer:match('^[^.]*'), consumer .. '\n' .. source)
return { generation, redis.call('HGET', meta, 'max'), redis.call('HGET', meta, 'dead') }
