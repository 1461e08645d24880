return list(ARGV[3], tonumber(ARGV[2]))
