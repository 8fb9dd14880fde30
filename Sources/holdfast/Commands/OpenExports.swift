// Opens the images of exports: one `Image`, and so one lock table, per inode, however many exports show it, and whenever they
// come.

import BlockBackend
import Faults
import HoldfastServer
import Locking
import Logging
import NBDServerCore
import SparseFile
import Syscalls
import SystemPackage

/// An export whose image is open.
struct OpenedExport {
  var plan: ExportPlan
  var export: Export
  var file: ImageFile
  /// The image was made for it.
  var isNew: Bool
}

/// The images of this process. An image is known as long as anybody uses it: an export, a connection, or the last sync; the error of a
/// failed sync for as long as it is not cleared.
final class OpenImages: Sendable {
  private let lanes: Lanes
  private let guards: GuardSwitches
  private let logger: Logger
  private let known = Locked<[ImageIdentity: Known]>([:])

  private struct Known {
    weak var image: Image?
    let record: SyncErrorRecord
    let path: String
    /// The export that it was opened for.
    var export: String
    var faults: [FaultRule]
  }

  init(lanes: Lanes, guards: GuardSwitches, logger: Logger) {
    self.lanes = lanes
    self.guards = guards
    self.logger = logger
  }

  /// Opens all of them or none; a file that was made for one of them is removed when another cannot be opened. Blocks. In the order of
  /// `plans`.
  /// - Parameter defaultExport: the name of the export that also answers to the empty name.
  func open(_ plans: [ExportPlan], defaultExport: String?) throws(CommandFailure) -> [OpenedExport] {
    var opened: [String: OpenedExport] = [:]
    do throws(CommandFailure) {
      // Writable ones first: a read-only export of the same inode then uses the writable image.
      for plan in plans.filter({ !$0.isReadOnly }) + plans.filter(\.isReadOnly) {
        opened[plan.name] = try open(plan, isDefault: plan.name == defaultExport)
      }
    } catch {
      for each in opened.values where each.isNew { try? Files.unlink(each.file.path) }
      throw error
    }
    return plans.compactMap { opened[$0.name] }
  }

  private func open(_ plan: ExportPlan, isDefault: Bool) throws(CommandFailure) -> OpenedExport {
    var options = OpenOptions(plan)
    // An empty file in the place of an image that is in use and only out of sight would be served as that image.
    if isInUse(plan.path) { options.create = false }
    let file = try openImage(plan.path, options, faults: plan.faults, guards: guards)
    let isNew = file.wasMade
    for warning in file.warnings { logger.warning("\(warning)", metadata: ["export": "\(plan.name)"]) }
    do throws(CommandFailure) {
      let (image, shown) = try use(file, for: plan)
      if let error = image.latchedError {
        logger.error(
          "an earlier sync of this inode failed: \(error); FLUSH and FUA fail until \"holdfast clear-error \(plan.name)\"",
          metadata: ["export": "\(plan.name)"])
      }
      let export = plan.export(of: image, isDefault: isDefault)
      do throws(ExportShape.Mismatch) { _ = try export.shape() } catch {
        throw CommandFailure(.configuration, "export \"\(plan.name)\": \(error.clause)")
      }
      for rule in plan.faults {
        logger.warning("faults are injected on purpose: \(rule.text)", metadata: ["export": "\(plan.name)"])
      }
      if plan.terms.durability == .never {
        logger.warning(
          "durability = \"unsafe\": FLUSH and FUA are answered without a sync; after a crash the image may be of no use",
          metadata: ["export": "\(plan.name)"])
      }
      return OpenedExport(plan: plan, export: export, file: shown, isNew: isNew)
    } catch {
      if isNew { try? Files.unlink(file.path) }
      throw error
    }
  }

  /// An image that was opened there has clients or exports still.
  private func isInUse(_ path: String) -> Bool {
    known.withLock { $0.values.contains { $0.image != nil && $0.path == path } }
  }

  /// The image of the inode that `file` is; the one that is open already, if there is one.
  private func use(_ file: ImageFile, for plan: ExportPlan) throws(CommandFailure) -> (Image, ImageFile) {
    try known.withLock { known throws(CommandFailure) in
      known = known.filter { $0.value.image != nil || $0.value.record.error != nil }
      let identity = file.identity
      if let first = known[identity], let image = first.image, let shown = image.backend as? ImageFile {
        guard first.faults == plan.faults else {
          throw CommandFailure(
            .configuration,
            "exports \"\(first.export)\" and \"\(plan.name)\" show one image, which has one set of faults; write the same "
              + "faults for both")
        }
        guard plan.isReadOnly || image.backend.capabilities.contains(.writable) else {
          throw CommandFailure(
            .configuration,
            "export \"\(plan.name)\": \(plan.path) is open read-only for export \"\(first.export)\" and cannot become writable "
              + "while that is served; remove that export first, or restart the server")
        }
        return (image, shown)
      }
      // A file that was made just now may have the number of one that is gone.
      let record = file.wasMade ? SyncErrorRecord() : known[identity]?.record ?? SyncErrorRecord()
      let image = Image(backend: file, lanes: lanes, guards: guards, record: record)
      known[identity] = Known(image: image, record: record, path: plan.path, export: plan.name, faults: plan.faults)
      return (image, file)
    }
  }
}

extension ExportPlan {
  func export(of image: Image, isDefault: Bool) -> Export {
    Export(
      name: name, aliases: isDefault ? [""] : [], description: description, isReadOnly: isReadOnly, image: image,
      window: terms.window, blockSizes: terms.blockSizes, ignoresTrim: terms.ignoresTrim,
      durability: terms.durability, limits: terms.limits, access: terms.access)
  }
}
