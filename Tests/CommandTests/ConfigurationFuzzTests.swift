// No bytes make the reader fail, and no mistake is without a line of the file.

import Testing

@testable import holdfast

/// SplitMix64: the same numbers for the same seed everywhere.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

@Suite struct ConfigurationFuzz {
  static let seed = """
    [server]
    listen = ["nbd+unix:///?socket=/run/a.sock", 'nbd://localhost:0', \"\"\"nbd://[::1]:7\"\"\"]
    default-export = "root" # why
    limits = { a = 1, "b c" = [ 1, 0xff, { d = true } ] }
    max-connections = 0x10

    [[export]]
    name = "root\\u00e9"
    path = '/srv/root.img'
    size = "20GiB"
    create = true

    window = { offset = "1MiB", size = 0x1000 }
    block-size = { minimum = 512, preferred = 4096, maximum = "1MiB" }
    allow = ["127.0.0.0/8", 'unix', "uid:7", "2001:db8::/32"]
    trim = "ignore"
    durability = "always"

      [export.limits]
      in-flight = 1_000
      bytes = "64MiB"

    [[export]]
    name = '''iso'''
    path = "debian.iso"
    read-only = true
    """

  /// Pieces that a random byte rarely hits on.
  static let pieces = [
    "[", "]", "[[", "]]", "\"\"\"", "'''", "{", "}", ",", "=", "\n", "#", "\\", "\\u0000", ".", "\"", "'", "é", "\0",
  ]

  @Test func mutatedFilesAreReadOrRefusedWithLines() {
    let seedNumber = UInt64.random(in: 0..<1 << 32)
    var random = SeededGenerator(state: seedNumber)
    let reader = ConfigurationReader(directory: "/etc", resolve: fakeResolver, directories: rootDirectories)
    for round in 0..<3000 {
      var bytes = Array(Self.seed.utf8)
      for _ in 0..<Int.random(in: 1...8, using: &random) { mutate(&bytes, &random) }
      do throws(ConfigurationMistakes) {
        _ = try reader.read(bytes)
      } catch {
        let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
        #expect(!error.mistakes.isEmpty, "seed \(seedNumber) round \(round)")
        #expect(error.mistakes.allSatisfy { (1...lines).contains($0.line) }, "seed \(seedNumber) round \(round)")
      }
    }
  }

  @Test func everyTextIsReadToItsEndOrRefusedWithALine() {
    let seedNumber = UInt64.random(in: 0..<1 << 32)
    var random = SeededGenerator(state: seedNumber)
    for round in 0..<3000 {
      // Also what is no TOML: the scan must come to an end on it.
      let text = (0..<Int.random(in: 0...40, using: &random)).map { _ in
        Bool.random(using: &random) ? Self.pieces.randomElement(using: &random)! : "a"
      }.joined()
      let lines = text.utf8.count { $0 == UInt8(ascii: "\n") } + 1
      do throws(Mistake) { _ = try TOMLLines(text) } catch {
        #expect((1...lines).contains(error.line), "seed \(seedNumber) round \(round)")
      }
    }
  }

  /// The same with drop-ins: each mistake names the file that it is in.
  @Test func mutatedDropInsAreReadOrRefusedWithLines() {
    let seedNumber = UInt64.random(in: 0..<1 << 32)
    var random = SeededGenerator(state: seedNumber)
    let reader = ConfigurationReader(directory: "/etc", resolve: fakeResolver, directories: rootDirectories)
    let seed = Self.seed.split(separator: "\n\n").dropFirst().joined(separator: "\n\n")
    for round in 0..<2000 {
      let dropIns = (0..<2).map { number in
        var bytes = Array(seed.replacing("root", with: "root\(number)").utf8)
        for _ in 0..<Int.random(in: 0...4, using: &random) { mutate(&bytes, &random) }
        return DropIn(path: "conf.d/\(number).toml", directory: "/etc/conf.d", bytes: bytes)
      }
      do throws(ConfigurationMistakes) {
        _ = try reader.read(Array("[server]\n".utf8), dropIns: dropIns)
      } catch {
        #expect(!error.mistakes.isEmpty, "seed \(seedNumber) round \(round)")
        for mistake in error.mistakes {
          let file = dropIns.first { $0.path == mistake.file }
          let lines = (file?.bytes ?? []).count { $0 == UInt8(ascii: "\n") } + 1
          #expect((1...lines).contains(mistake.line), "seed \(seedNumber) round \(round)")
        }
      }
    }
  }

  private func mutate(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    let index = Int.random(in: 0...bytes.count, using: &random)
    let end = min(bytes.count, index + Int.random(in: 0...20, using: &random))
    switch Int.random(in: 0..<4, using: &random) {
    case 0: bytes.removeSubrange(index..<end)
    case 1: bytes.insert(contentsOf: Self.pieces.randomElement(using: &random)!.utf8, at: index)
    case 2: bytes.insert(contentsOf: bytes[index..<end], at: Int.random(in: 0...bytes.count, using: &random))
    default: if index < bytes.count { bytes[index] = UInt8.random(in: 0...255, using: &random) }
    }
  }
}

@Suite struct Suggestions {
  @Test func slipsAreRecognised() {
    let keys = ["read-only", "path", "name", "size"]
    #expect(closest(to: "raed-only", in: keys) == "read-only")
    #expect(closest(to: "readonly", in: keys) == "read-only")
    #expect(closest(to: "nmae", in: keys) == "name")
    #expect(closest(to: "bandwidth", in: keys) == nil)
    #expect(closest(to: "", in: keys) == nil)
    #expect(closest(to: "x", in: []) == nil)
  }

  @Test func distanceCountsSwapsOnce() {
    #expect(editDistance("ab", "ba") == 1)
    #expect(editDistance("", "abc") == 3)
    #expect(editDistance("abc", "") == 3)
    #expect(editDistance("kitten", "sitting") == 3)
  }
}
