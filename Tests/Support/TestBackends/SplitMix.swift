// A generator whose whole state is a seed: the same seed, the same test.

import Oracle

package typealias SplitMix = SeededGenerator
