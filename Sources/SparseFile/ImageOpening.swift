// From a path to an image that is open, locked and measured. Refusals are sentences for the operator.

import BlockBackend
import Syscalls
import SystemPackage

extension ImageFile {
  /// Opens, and with `options.create` makes, the image at `path`, and locks it against other programs until the last
  /// reference goes. Blocks for as long as the file system likes.
  package static func open(
    path: FilePath, options: OpenOptions = OpenOptions(), guards: GuardSwitches = .allStand
  ) throws(ImageOpenError) -> ImageFile {
    ImageFile(try ImageOpening(path: path, options: options).open(guards), calls: .kernel, guards: guards)
  }

  /// `hook` stands in front of each call on the file.
  /// - Parameter isFaulty: it injects faults, delays among them. So the image is not `.local`: what waits for it waits where
  ///   a remote file system would be waited for, and no read goes around the hook.
  package static func open(
    path: FilePath, options: OpenOptions = OpenOptions(), guards: GuardSwitches = .allStand, isFaulty: Bool = false,
    hook: @escaping @Sendable (FileCall) -> FileCallAnswer
  ) throws(ImageOpenError) -> ImageFile {
    let opened = try ImageOpening(path: path, options: options).open(guards)
    return ImageFile(opened, calls: FileCalls(hook: hook, isFaulty: isFaulty), guards: guards)
  }
}

/// All that `ImageFile` needs.
struct OpenedImage {
  var path: FilePath
  var lease: ImageLease
  var file: OpenFile
  var probe: OpenFile
  var isBlockDevice: Bool
  var isInMemory: Bool
  /// Pages of the file may go into a socket.
  var sendsPages: Bool
  /// FIEMAP is as good as SEEK_DATA there.
  var mapsExtents: Bool
  var geometry: Geometry
  var capabilities: Capabilities
  var trimUnitBytes: UInt64
  var warnings: [String]
  /// There was no file at the path.
  var wasMade = false
}

private struct ImageOpening {
  let path: FilePath
  let options: OpenOptions
  private var purpose: String { options.readOnly ? "" : " for writing" }
  private let asReader = "; serve it read-only (--read-only, or read-only = true)"

  init(path: FilePath, options: OpenOptions) {
    self.path = path
    self.options = options
  }

  func open(_ guards: GuardSwitches) throws(ImageOpenError) -> OpenedImage {
    guard let kind = try existingKind() else {
      let file = try create()
      do throws(ImageOpenError) {
        let lease = try lock(file)
        try grow(file)
        var image = try measured(file, lease, guards)
        image.wasMade = true
        return image
      } catch {
        // Ours, unless another program was quicker with its locks: then it is that program's now.
        if case .locked = error.category { throw error }
        do throws(Errno) { try Files.unlink(path) } catch {}
        throw error
      }
    }
    // A block device is claimed by the lease, so here it is opened only to see which one it is.
    let isBlockDevice = kind == .blockDevice
    let flags: OpenFlags = isBlockDevice ? [] : options.readOnly ? .nonblocking : [.nonblocking, .writable]
    let file = try openForUse(flags)
    let lease = try lock(file)
    return try measured(lease.claim ?? file, lease, guards)
  }

  private func openForUse(_ flags: OpenFlags) throws(ImageOpenError) -> OpenFile {
    do throws(Errno) {
      let file = try Files.open(path, flags)
      // The kernel opens a read-only device for writing, and fails the writes.
      if !options.readOnly, try Files.fstat(file).kind == .blockDevice, try Files.isReadOnlyDevice(file) {
        throw .readOnlyFileSystem
      }
      return file
    } catch {
      let mayBeRead = !options.readOnly && (try? Files.open(path)) != nil
      let isPermission = ImageOpenError.Category(error) == .permission
      let advice = isPermission && mayBeRead ? asReader : ""
      throw ImageOpenError(.init(error), "cannot open image \(path)\(purpose): \(error)\(advice)")
    }
  }

  /// What is at the path now; nil when nothing is and it is to be made.
  private func existingKind() throws(ImageOpenError) -> FileStatus.Kind? {
    let kind: FileStatus.Kind
    do throws(Errno) {
      kind = try Files.stat(path).kind
    } catch .noSuchFileOrDirectory where options.create {
      return nil
    } catch .noSuchFileOrDirectory {
      let advice =
        options.readOnly ? "check the path" : "to make one: --create --size 20G, or create and size in a configuration"
      throw ImageOpenError(.noSuchFile, "cannot open image \(path): no such file; \(advice)")
    } catch {
      throw ImageOpenError(error, "cannot open image \(path)")
    }
    if let what = refusedKinds[kind] {
      throw ImageOpenError(.notAnImage, "cannot serve \(path): it is \(what); an image is a file or a block device")
    }
    return kind
  }

  // MARK: Making a file

  private func create() throws(ImageOpenError) -> OpenFile {
    guard let sizeBytes = options.sizeBytes, sizeBytes > 0 else {
      throw ImageOpenError(.cannotCreate, "cannot create image \(path): its size is missing; pass --size")
    }
    guard Int64(exactly: sizeBytes) != nil else {
      throw ImageOpenError(.tooLarge, "cannot create image \(path): \(sizeBytes) bytes is more than a file can have")
    }
    guard !options.readOnly else {
      throw ImageOpenError(
        .cannotCreate,
        "cannot create image \(path): a new image that is read only would stay empty; drop one of the two")
    }
    do throws(Errno) {
      return try Files.open(path, [.createNew, .writable])
    } catch {
      let category: ImageOpenError.Category =
        error == .fileExists || error == .noSuchFileOrDirectory ? .cannotCreate : .init(error)
      throw ImageOpenError(category, "cannot create image \(path): \(error)")
    }
  }

  private func grow(_ file: OpenFile) throws(ImageOpenError) {
    let sizeBytes = options.sizeBytes ?? 0
    do throws(Errno) {
      try Files.ftruncate(file, sizeBytes: sizeBytes)
      // The image outlives a crash right after its first acknowledged flush only if its name does.
      try Files.fsync(file)
      let directory = path.removingLastComponent()
      try Files.fsync(try Files.open(directory.isEmpty ? "." : directory, .directory))
    } catch {
      let category: ImageOpenError.Category =
        error == .fileTooLarge || error == .invalidArgument ? .tooLarge : .init(error)
      throw ImageOpenError(category, "cannot create image \(path) with \(sizeBytes) bytes: \(error)")
    }
  }

  // MARK: Locking

  private func lock(_ file: OpenFile) throws(ImageOpenError) -> ImageLease {
    let identity = try attempt("cannot look at image \(path)") { () throws(Errno) in
      ImageIdentity(try Files.fstat(file))
    }
    do throws(LeaseRefusal) {
      return try HeldImages.lease(identity, options.readOnly ? .reader : .writer, of: file, at: path)
    } catch {
      throw explained(error, identity)
    }
  }

  private func explained(_ refusal: LeaseRefusal, _ identity: ImageIdentity) -> ImageOpenError {
    switch refusal {
    case .inUse(let bytes, let readerIsWelcome):
      let holder = findLockHolder(of: identity, onBytes: bytes)
      let advice = readerIsWelcome ? asReader : "; stop that program first"
      let who = holder?.description ?? "another program"
      return ImageOpenError(.locked(holder), "cannot lock image \(path): in use by \(who)\(advice)")
    case .claimed:
      return ImageOpenError(
        .locked(nil), "cannot lock block device \(path): it is mounted or in use by another program; release it first")
    case .overlaps(let other):
      return ImageOpenError(
        .locked(nil),
        "cannot serve \(path) beside \(other): one is a part of the other (partition, loop or mapped device)")
    case .isBeingSent:
      return ImageOpenError(
        .locked(nil),
        "cannot open image \(path)\(purpose): replies of a read-only export of it are on their way; try again")
    case .failed(let errno):
      return ImageOpenError(errno, "cannot open image \(path)\(purpose)")
    }
  }

  // MARK: Measuring

  private func measured(
    _ file: OpenFile, _ lease: ImageLease, _ guards: GuardSwitches
  ) throws(ImageOpenError) -> OpenedImage {
    let image = try attempt("cannot look at image \(path)") { () throws(Errno) in
      let status = try Files.fstat(file)
      let isBlockDevice = status.kind == .blockDevice
      let fileSystem = try Files.fstatfs(file)
      let kind = isBlockDevice ? nil : FileSystemKind(rawValue: fileSystem.magic)
      var capabilities: Capabilities = [.cache]
      if isBlockDevice || kind?.isLocal == true { capabilities.insert(.local) }
      if !isBlockDevice { capabilities.insert(.extents) }
      if !options.readOnly { capabilities.formUnion([.writable, .trim, .fastZero]) }
      let probe =
        guards.stands(.ownProbeDescriptor) ? try Files.reopen(file) : try Files.duplicate(file)
      return OpenedImage(
        path: path, lease: lease, file: file, probe: probe, isBlockDevice: isBlockDevice,
        isInMemory: kind == .tmpfs, sendsPages: kind?.sendsPages == true, mapsExtents: kind?.mapsExtents == true,
        geometry: isBlockDevice ? try deviceGeometry(file) : fileGeometry(status),
        capabilities: capabilities,
        trimUnitBytes: isBlockDevice
          ? UInt64(try Files.logicalBlockBytes(file)) : fileSystemBlock(fileSystem.blockBytes),
        warnings: warnings(file, lease, kind, isBlockDevice: isBlockDevice))
    }
    let sizeBytes = image.geometry.sizeBytes
    var complete = image
    if let wanted = options.sizeBytes, wanted != sizeBytes {
      guard wanted < sizeBytes, !image.isBlockDevice else {
        throw ImageOpenError(
          .cannotCreate,
          "image \(path) exists and has \(sizeBytes) bytes, not \(wanted): an image is never cut or grown here; drop create and size"
        )
      }
      // It has grown since it was made, which is how images become larger.
      complete.warnings.append(
        "image \(path) exists and has \(sizeBytes) bytes, more than the \(wanted) it would be made with: it is served as it is"
      )
    }
    if sizeBytes == 0 { complete.warnings.append("image \(path) is empty: clients will see a disk of 0 bytes") }
    if let format = signature(file, sizeBytes: sizeBytes) {
      complete.warnings.append(
        "image \(path) looks like \(format) but is served raw: clients will see the \(format) file, not the disk in it")
    }
    return complete
  }

  private func fileGeometry(_ status: FileStatus) -> Geometry {
    let preferred = UInt32(clamping: min(max(status.blockBytes, 4096), 65536))
    return Geometry(
      sizeBytes: status.sizeBytes, blockBytesPreferred: preferred.nonzeroBitCount == 1 ? preferred : 4096,
      isRotational: isRotational(device: status.device))
  }

  private func deviceGeometry(_ file: OpenFile) throws(Errno) -> Geometry {
    let logical = try Files.logicalBlockBytes(file)
    let sizeBytes = try Files.blockDeviceSizeBytes(file)
    return Geometry(
      // A started block at the end (a loop device on a file of odd size) can be neither read nor written.
      sizeBytes: sizeBytes - sizeBytes % UInt64(logical),
      blockBytesPreferred: min(max(try Files.physicalBlockBytes(file), logical, 4096), 65536),
      // The page cache reads and writes back whole pages. Before Linux 6.15 a short write may fetch the rest of its page
      // while a neighbouring block is zeroed, and put the old bytes of that block back.
      lockUnitBytes: max(logical, pageBytes()), isRotational: try Files.isRotationalDevice(file))
  }

  private func fileSystemBlock(_ bytes: UInt64) -> UInt64 { bytes.nonzeroBitCount == 1 ? bytes : 4096 }

  private func warnings(
    _ file: OpenFile, _ lease: ImageLease, _ kind: FileSystemKind?, isBlockDevice: Bool
  ) -> [String] {
    var warnings: [String] = []
    if let errno = lease.lockRefusal {
      warnings.append("image \(path) cannot be locked (\(errno)): nothing keeps another program from writing to it")
    }
    if isBlockDevice, let size = try? Files.blockDeviceSizeBytes(file), let block = try? Files.logicalBlockBytes(file),
      size % UInt64(block) != 0
    {
      warnings.append(
        "block device \(path) ends in a started block of \(size % UInt64(block)) bytes, which cannot be read or written and "
          + "is not served")
    }
    if !isBlockDevice, kind?.isLocal != true {
      warnings.append(
        "image \(path) is on \(kind.map { "a \($0.name)" } ?? "an unknown") file system: a call may wait for another "
          + "program or machine, holes may not be told, and zeroing may have to write")
    }
    return warnings
  }

  private func signature(_ file: OpenFile, sizeBytes: UInt64) -> String? {
    let head = bytes(of: file, at: 0)
    return knownFormat(head: head, tail: sizeBytes > 512 ? bytes(of: file, at: sizeBytes - 512) : [])
  }

  /// At most 512; none when they cannot be read, which clients will be told when they ask.
  private func bytes(of file: OpenFile, at offset: UInt64) -> [UInt8] {
    (try? Files.bytes(of: file, at: offset, count: 512)) ?? []
  }

  private func attempt<Result>(
    _ what: String, _ body: () throws(Errno) -> Result
  ) throws(ImageOpenError) -> Result {
    do throws(Errno) { return try body() } catch { throw ImageOpenError(error, what) }
  }
}

private let refusedKinds: [FileStatus.Kind: String] = [
  .directory: "a directory", .socket: "a socket", .fifo: "a pipe", .characterDevice: "a character device",
  .other: "neither file nor device",
]

extension ImageOpenError {
  /// "`what`: No such file or directory".
  init(_ errno: Errno, _ what: String) { self.init(Category(errno), "\(what): \(errno)") }
}

extension ImageOpenError.Category {
  /// What an errno of open, stat, lock or ioctl means for the operator.
  init(_ errno: Errno) {
    self =
      switch errno {
      case .noSuchFileOrDirectory, .notDirectory, .noSuchAddressOrDevice, .operationNotSupportedByDevice: .noSuchFile
      case .permissionDenied, .notPermitted, .readOnlyFileSystem: .permission
      case .resourceBusy, .textFileBusy: .locked(nil)
      case .fileTooLarge, .overflow: .tooLarge
      case .noSpace, .diskQuotaExceeded: .cannotCreate
      default: .io
      }
  }
}
