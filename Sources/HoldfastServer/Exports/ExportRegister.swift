// The exports of one server: which there are, which names they have, and which images they show. A value; the server excludes.
// With its lock held, the `state` of an export may be taken, and nothing else.

import NBDProtocol
import NBDServerCore

struct ExportRegister {
  /// What new clients find.
  private(set) var table = ExportTable()
  /// Everything that is served, by the order in which it came: ids grow.
  private var served: [ExportID: ServedExport] = [:]
  /// Of those that keep their names: served and hidden ones.
  private var names: [String: ExportID] = [:]
  /// Exports by image.
  private var uses: [ImageKey: Int] = [:]
  private var nextID: UInt64 = 0
  /// Images whose last sync has not ended.
  private var leaving: [UInt64: (image: Image, export: String)] = [:]
  private var nextLeaving: UInt64 = 0
  /// How often an export has lost its names.
  private(set) var departures = 0

  subscript(id: ExportID) -> ServedExport? { served[id] }

  var all: [ServedExport] { served.values.sorted { $0.id.rawValue < $1.id.rawValue } }

  /// By name or alias, when it is not leaving.
  func named(_ name: String) -> ServedExport? { names[name].flatMap { served[$0] } }

  /// By name or alias; else one that is leaving, the youngest.
  func find(_ name: String) -> ServedExport? { named(name) ?? all.last { $0.snapshot.export.name == name } }

  /// For an export that is about to come.
  mutating func makeID() -> ExportID {
    defer { nextID += 1 }
    return ExportID(rawValue: nextID)
  }

  /// - Parameter id: of `makeID`, for this export alone.
  mutating func add(_ export: Export, _ shape: ExportShape, id: ExportID) throws(ExportChangeError) -> ServedExport {
    for name in export.names.sorted() where names[name] != nil { throw .nameIsTaken(name) }
    let new = ServedExport(id: id, export, shape)
    served[id] = new
    for name in export.names { names[name] = id }
    uses[export.image.key, default: 0] += 1
    table.add(export.entry(shape), id: id)
    return new
  }

  /// New clients do not find it any more.
  mutating func hide(_ id: ExportID) { table.remove(id) }

  mutating func show(_ each: ServedExport) {
    let (export, shape) = each.description
    table.add(export.entry(shape), id: each.id)
  }

  /// Its names are free.
  mutating func release(_ id: ExportID) {
    departures += 1
    table.remove(id)
    names = names.filter { $0.value != id }
  }

  /// It is something else from now on, under the same name.
  mutating func change(_ each: ServedExport, to export: Export, _ shape: ExportShape) throws(ExportChangeError) {
    for name in export.names.sorted() {
      if let other = names[name], other != each.id { throw .nameIsTaken(name) }
    }
    names = names.filter { $0.value != each.id }
    for name in export.names { names[name] = each.id }
    reshape(each, export, shape)
  }

  /// New clients are told this about it.
  mutating func reshape(_ each: ServedExport, _ export: Export, _ shape: ExportShape) {
    // The table ignores one that is hidden or leaving.
    table.change(each.id, to: export.entry(shape))
    each.change(to: export, shape)
  }

  /// It is gone for good.
  /// - Returns: a ticket for `synced`, when no other export shows its image.
  mutating func bury(_ each: ServedExport) -> UInt64? {
    served[each.id] = nil
    let key = each.image.key
    let left = uses[key, default: 1] - 1
    uses[key] = left > 0 ? left : nil
    guard left == 0 else { return nil }
    defer { nextLeaving += 1 }
    leaving[nextLeaving] = (each.image, each.snapshot.export.name)
    return nextLeaving
  }

  mutating func synced(_ ticket: UInt64) { leaving[ticket] = nil }

  /// Every image, once, with the name of an export.
  var images: [(image: Image, export: String)] {
    var seen: Set<ImageKey> = []
    let all = all.map { ($0.image, $0.snapshot.export.name) } + leaving.values.map { ($0.image, $0.export) }
    return all.filter { seen.insert($0.0.key).inserted }
  }
}
