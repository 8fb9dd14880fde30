// Images with a format of their own that are about to be served raw: clients would see the container, not the disk.

/// The name of the format whose signature `head` (the first bytes of an image) or `tail` (its last 512) has.
func knownFormat(head: [UInt8], tail: [UInt8]) -> String? {
  for format in formats where head.dropFirst(format.offset).starts(with: format.signature) { return format.name }
  return tail.starts(with: "conectix".utf8) ? "VHD" : nil
}

private let formats: [(name: String, offset: Int, signature: [UInt8])] = [
  ("qcow2", 0, [0x51, 0x46, 0x49, 0xfb]),
  ("QED", 0, [0x51, 0x45, 0x44, 0x00]),
  ("VMDK", 0, Array("KDMV".utf8)),
  ("VMDK", 0, Array("COWD".utf8)),
  ("VMDK", 0, Array("# Disk DescriptorFile".utf8)),
  ("VHDX", 0, Array("vhdxfile".utf8)),
  ("VHD", 0, Array("conectix".utf8)),
  ("VDI", 64, [0x7f, 0x10, 0xda, 0xbe]),
]
