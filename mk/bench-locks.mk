# Included by Makefile. Prints what docs/range-locks.md quotes.

.PHONY: bench-locks
bench-locks:
	swift build -c release --product holdfast-bench-locks
	"$$(swift build -c release --show-bin-path)/holdfast-bench-locks"
