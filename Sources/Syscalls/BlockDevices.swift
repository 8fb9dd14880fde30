// ioctls of block devices.

import CLinux
import SystemPackage

extension Files {
  /// BLKGETSIZE64, bytes.
  package static func blockDeviceSizeBytes(_ file: OpenFile) throws(Errno) -> UInt64 {
    var size: UInt64 = 0
    _ = try check(unsafe hf_blk_size(file.descriptor, &size))
    return size
  }

  /// BLKSSZGET: the smallest unit that the device can address, bytes.
  package static func logicalBlockBytes(_ file: OpenFile) throws(Errno) -> UInt32 {
    UInt32(try check(hf_blk_logical(file.descriptor)))
  }

  /// BLKPBSZGET: the smallest unit that the device writes without reading first, bytes.
  package static func physicalBlockBytes(_ file: OpenFile) throws(Errno) -> UInt32 {
    UInt32(try check(hf_blk_physical(file.descriptor)))
  }

  /// BLKROGET.
  package static func isReadOnlyDevice(_ file: OpenFile) throws(Errno) -> Bool {
    try check(hf_blk_read_only(file.descriptor)) != 0
  }

  /// BLKROTATIONAL.
  package static func isRotationalDevice(_ file: OpenFile) throws(Errno) -> Bool {
    try check(hf_blk_rotational(file.descriptor)) != 0
  }

  /// BLKDISCARD: gives storage back; what is read afterwards is the device's choice.
  package static func discard(_ fd: Int32, at offset: UInt64, length: UInt64) throws(Errno) {
    _ = try check(hf_blk_discard(fd, offset, length))
  }
}
