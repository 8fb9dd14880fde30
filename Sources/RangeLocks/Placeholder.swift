// RangeLocks
