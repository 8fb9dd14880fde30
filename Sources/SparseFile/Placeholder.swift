// SparseFile
