// What was counted in a run, and how a run is fitted to what the server offers.

import Torture

struct Tally: Sendable {
  var requests = 0
  var byVerb: [Verb: Int] = [:]
  var succeeded: [Verb: Int] = [:]
  var errors: [Verb: Int] = [:]
  /// FLUSHes, and changes with FUA, that succeeded.
  var syncs = 0
  var unanswered = 0
  var kills = 0
  var looks = 0
  var mustReconnect = false

  mutating func count(_ epoch: [Request]) {
    requests += epoch.count
    for request in epoch {
      byVerb[request.verb, default: 0] += 1
      if request.completed == nil {
        unanswered += 1
      } else if request.errno != 0 {
        errors[request.verb, default: 0] += 1
      } else {
        succeeded[request.verb, default: 0] += 1
        if request.verb == .flush || request.fua { syncs += 1 }
      }
    }
  }
}

extension Settings {
  /// Takes out what the server does not offer.
  /// - Returns: what was changed, a sentence each.
  mutating func fit(to advertised: Advertised) throws(TortureFailure) -> [String] {
    var notes: [String] = []
    if advertised.isReadOnly { throw TortureFailure("the export is read-only: nothing can be judged") }
    if shape.blockBytes % advertised.blockBytesMin != 0 {
      shape.blockBytes = max(512, advertised.blockBytesMin)
      notes.append("the server's smallest block is \(advertised.blockBytesMin): --block is \(shape.blockBytes)")
    }
    try fitRegion(to: advertised, &notes)
    let offered: [(Verb, Bool)] = [
      (.trim, advertised.trim), (.zero, advertised.zero), (.status, advertised.status), (.flush, advertised.flush),
    ]
    for (verb, isOffered) in offered where !isOffered && shape.mix.weights[verb] != nil {
      shape.mix.weights[verb] = nil
      notes.append("\(verb.rawValue) is not offered and is left out")
    }
    if !advertised.fua, shape.fuaEvery > 0 {
      shape.fuaEvery = 0
      notes.append("FUA is not offered and is left out")
    }
    if !advertised.multiConnection, connections > 1 {
      connections = 1
      notes.append("the server does not offer several connections (CAN_MULTI_CONN): one is used")
    }
    return notes
  }

  private mutating func fitRegion(to advertised: Advertised, _ notes: inout [String]) throws(TortureFailure) {
    let unit = shape.blockBytes
    if let regionBytes {
      guard UInt64(regionBytes) <= advertised.sizeBytes else {
        throw TortureFailure("--region is \(regionBytes) bytes, but the export has only \(advertised.sizeBytes)")
      }
      shape.regionBytes = regionBytes / unit * unit
    } else {
      shape.regionBytes = Int(min(UInt64(shape.regionBytes), advertised.sizeBytes)) / unit * unit
    }
    guard shape.regionBytes >= 4 * unit else {
      throw TortureFailure("a region of \(shape.regionBytes) bytes is too small for blocks of \(unit)")
    }
    guard advertised.payloadBytesMax >= unit else {
      throw TortureFailure(
        "the server takes at most \(advertised.payloadBytesMax) bytes in a request, less than a block of \(unit)")
    }
    let most = min(shape.regionBytes, advertised.payloadBytesMax) / unit * unit
    shape.lengthBytesMin = min(max(unit, shape.lengthBytesMin / unit * unit), most)
    shape.lengthBytesMax = max(shape.lengthBytesMin, min(shape.lengthBytesMax, most))
    shape.longBytesMax = max(shape.lengthBytesMax, min(shape.longBytesMax, most))
  }
}
