// Sizes as operators write them.

import Testing

@testable import holdfast

@Suite struct Sizes {
  @Test(
    arguments: [
      ("4096", 4096), ("4096B", 4096), ("1k", 1024), ("20G", 20 << 30), ("512M", 512 << 20), ("1TiB", 1 << 40),
      ("1tib", 1 << 40), ("7E", 7 << 60), ("9223372036854775807", UInt64(Int64.max)),
    ] as [(String, UInt64)])
  func suffixesArePowersOf1024(text: String, bytes: UInt64) throws {
    #expect(try ByteSize(parsing: text).bytes == bytes)
  }

  @Test(arguments: [
    ("", "\"\" is not a size; write a whole number of bytes, or one with K, M, G, T, KiB, MiB, GiB or TiB"),
    ("big", "\"big\" is not a size; write a whole number of bytes, or one with K, M, G, T, KiB, MiB, GiB or TiB"),
    ("G", "\"G\" is not a size; write a whole number of bytes, or one with K, M, G, T, KiB, MiB, GiB or TiB"),
    ("1.5G", "\"1.5G\" is not a size; write a whole number of bytes, or one with K, M, G, T, KiB, MiB, GiB or TiB"),
    ("-1", "\"-1\" is not a size; write a whole number of bytes, or one with K, M, G, T, KiB, MiB, GiB or TiB"),
    ("10GB", "\"10GB\" could mean powers of 1000 or 1024; write 10GiB for 1024"),
    ("0", "\"0\" is empty; write at least 1"),
    ("8E", "\"8E\" is too large; a file on Linux has at most 9223372036854775807 bytes"),
    (
      "99999999999999999999",
      "\"99999999999999999999\" is too large; a file on Linux has at most 9223372036854775807 bytes"
    ),
  ])
  func whatIsNoSizeIsRefusedWithAReason(text: String, clause: String) {
    #expect(throws: SizeMistake(clause: clause)) { try ByteSize(parsing: text) }
  }

  @Test(
    arguments: [
      (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (10 << 30, "10.0 GiB"),
      ((1 << 20) - 1, "1.0 MiB"), (UInt64(Int64.max), "8.0 EiB"),
    ] as [(UInt64, String)])
  func sizesArePrintedRounded(bytes: UInt64, text: String) {
    #expect(ByteSize(bytes: bytes).description == text)
  }
}
