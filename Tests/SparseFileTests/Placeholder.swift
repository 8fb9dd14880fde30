// SparseFileTests
