// SyscallsTests
