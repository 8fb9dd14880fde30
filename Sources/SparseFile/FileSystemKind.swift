// What file system an image is on, by the magic number of statfs.

/// Numbers from linux/magic.h and the file systems' own headers.
enum FileSystemKind: UInt64 {
  case ext = 0xef53
  case xfs = 0x5846_5342
  case btrfs = 0x9123_683e
  case tmpfs = 0x0102_1994
  case overlay = 0x794c_7630
  case f2fs = 0xf2f5_2010
  case fuse = 0x6573_5546
  case nfs = 0x6969
  case cifs = 0xff53_4d42
  case smb2 = 0xfe53_4d42

  /// A call waits for this machine only: no server, no daemon that may be gone.
  var isLocal: Bool {
    switch self {
    // The upper layer of an overlay may be anything, but in practice it is a local disk.
    case .ext, .xfs, .btrfs, .tmpfs, .overlay, .f2fs: true
    case .fuse, .nfs, .cifs, .smb2: false
    }
  }

  /// FIEMAP tells of every byte that SEEK_DATA calls data, unwritten extents aside (`MappedLayoutTests` proves it). In ext4 both
  /// walk the same map, which knows of delayed allocation. XFS keeps dirty data of a shared extent elsewhere until it is
  /// written back, and tmpfs has no FIEMAP.
  var mapsExtents: Bool {
    switch self {
    case .ext: true
    case .xfs, .btrfs, .tmpfs, .overlay, .f2fs, .fuse, .nfs, .cifs, .smb2: false
    }
  }

  /// The image lock keeps every writer away, and the page cache is this machine's own. A write to an overlay goes to another
  /// inode than the one that was locked; a server may change its files without asking us.
  var sendsPages: Bool {
    switch self {
    case .ext, .xfs, .btrfs, .tmpfs: true
    case .overlay, .f2fs, .fuse, .nfs, .cifs, .smb2: false
    }
  }

  var name: String {
    switch self {
    case .ext: "ext4"
    case .xfs: "XFS"
    case .btrfs: "btrfs"
    case .tmpfs: "tmpfs"
    case .overlay: "overlay"
    case .f2fs: "f2fs"
    case .fuse: "FUSE"
    case .nfs: "NFS"
    case .cifs, .smb2: "SMB"
    }
  }
}
