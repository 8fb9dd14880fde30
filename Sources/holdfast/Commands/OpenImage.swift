// Opening an image for a command: the backend's error becomes an exit status and a sentence.

import BlockBackend
import Faults
import Locking
import SparseFile
import SystemPackage

/// - Parameter faults: what shall go wrong with it, on purpose.
func openImage(
  _ path: String, _ options: OpenOptions, faults: [FaultRule] = [], guards: GuardSwitches = .allStand
) throws(CommandFailure) -> ImageFile {
  do throws(ImageOpenError) {
    guard !faults.isEmpty else { return try ImageFile.open(path: FilePath(path), options: options, guards: guards) }
    let injection = Locked(FaultInjection(faults))
    return try ImageFile.open(path: FilePath(path), options: options, guards: guards, isFaulty: true) { call in
      injection.withLock { $0.answer(call) }
    }
  } catch {
    let status = ExitStatus(error.category)
    throw CommandFailure(status, error.description + adviceInUnit(status))
  }
}

/// A unit hides and protects most of the system, which a service that misses a file or a right to it does not see.
func adviceInUnit(_ status: ExitStatus) -> String {
  guard status == .noPermission || status == .noInput, RuntimeDirectories.ofThisProcess().unitDirectory != nil else {
    return ""
  }
  return "; what a service may open: holdfast(8), \"Images elsewhere\""
}

extension OpenOptions {
  init(_ export: ExportPlan) {
    self.init(
      readOnly: export.isReadOnly, create: export.createdSize != nil, sizeBytes: export.createdSize?.bytes)
  }
}

extension ExitStatus {
  init(_ category: ImageOpenError.Category) {
    switch category {
    case .noSuchFile: self = .noInput
    case .permission: self = .noPermission
    case .locked: self = .locked
    case .notAnImage, .tooLarge: self = .badImage
    case .cannotCreate: self = .cannotCreate
    case .io: self = .ioError
    }
  }
}
