-- Ends a consumer in order.
-- ARGV: source, consumer.
remove(ARGV[1], ARGV[2])
notify(ARGV[1], '')
