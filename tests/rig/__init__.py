"""What the tests run against: real servers with faults, and pjsua2 programs in processes of their own."""
