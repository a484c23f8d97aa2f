-- The operating system's process that holds the lease: "EPOCH/BOOT/NAMESPACES/PID/START". Only who runs on the same
-- boot of the same machine can read from it that the process has ended; the epoch says whose word it is.

ALTER TABLE krakenbot.leases ADD COLUMN process text;
