-- Makes a source, or changes its settings and adds patterns.
-- ARGV: source, max, dead, patterns.
local source, max, dead = ARGV[1], ARGV[2], ARGV[3]
local meta = P .. 'm:' .. source
local known = redis.call('HMGET', meta, 'max', 'dead', 'patterns')
if not known[1] then
  local failure = make_stream(source)
  if failure then
    return failure
  end
  redis.call('HSET', meta, 'generation', '0')
end
if known[1] ~= max or known[2] ~= dead then
  redis.call('HSET', meta, 'max', max, 'dead', dead)
  if known[1] then
    notify(source, 's' .. max .. '\n' .. dead)
  end
end

local name, patterns, has = source:sub(3), {}, {}
for pattern in (known[3] or ''):gmatch('[^\n]+') do
  patterns[#patterns + 1] = pattern
  has[pattern] = true
end
local before, wild = #patterns, false
for i = 4, #ARGV do
  local pattern = ARGV[i]
  if not has[pattern] then
    patterns[#patterns + 1] = pattern
    has[pattern] = true
    if pattern:find('[*#]') then
      wild = true
    else
      redis.call('SADD', P .. 'x:' .. pattern, name)
    end
  end
end
if #patterns > before then
  redis.call('HSET', meta, 'patterns', table.concat(patterns, '\n'))
end
if wild then
  set_wild(name, patterns)
end
