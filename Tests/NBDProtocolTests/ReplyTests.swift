// Replies as bytes: rows A6.2 to A6.6, A7.7, A7.14, A8.6.

import Testing

@testable import NBDProtocol

struct ReplyTests {
  let simple = ReplyEncoder(session: Session.test(replies: .simple))
  let structured = ReplyEncoder(session: Session.test(replies: .structured))
  let cookie: UInt64 = 0xfeed_face_cafe_beef

  @Test func withoutNegotiationRepliesAreSimple() {
    let success = encoded { simple.encodeSuccess(cookie: cookie, into: &$0, at: $1) }
    #expect(Chunk.parse(success) == .simple(error: 0, cookie: cookie))
    #expect(success.count == simple.successBytes)
    let read = encoded { simple.encodeReadHeader(cookie: cookie, offset: 9, dataBytes: 512, into: &$0, at: $1) }
    #expect(Chunk.parse(read) == .simple(error: 0, cookie: cookie))
    #expect(read.count == simple.readHeaderBytes)
    for error in NBDError.allCases {
      let bytes = encoded {
        simple.encodeError(cookie: cookie, command: .read, error: error, text: "why", offset: 5, into: &$0, at: $1)
      }
      #expect(Chunk.parse(bytes) == .simple(error: error.rawValue, cookie: cookie))
      #expect(bytes.count == simple.errorBytes(command: .read, text: "why", offset: 5))
    }
  }

  @Test func structuredReadIsAnOffsetDataChunk() {
    let header = encoded {
      structured.encodeReadHeader(cookie: cookie, offset: 0x0102_0304_0506_0708, dataBytes: 3, into: &$0, at: $1)
    }
    #expect(header.count == structured.readHeaderBytes)
    let chunk = Chunk.parse(header + [7, 8, 9])
    #expect(
      chunk
        == .structured(
          flags: 1, type: .offsetData, cookie: cookie, payload: [1, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9]))
  }

  @Test func onlyTheLastChunkIsDone() {
    for isLast in [true, false] {
      let data = encoded {
        structured.encodeReadHeader(cookie: cookie, offset: 0, dataBytes: 1, isLast: isLast, into: &$0, at: $1)
      }
      let hole = encoded {
        structured.encodeHole(cookie: cookie, offset: 1, holeBytes: 512, isLast: isLast, into: &$0, at: $1)
      }
      #expect(data[5] == (isLast ? 1 : 0))
      #expect(hole[5] == (isLast ? 1 : 0))
    }
    let success = encoded { structured.encodeSuccess(cookie: cookie, into: &$0, at: $1) }
    #expect(Chunk.parse(success) == .structured(flags: 1, type: ReplyType.none, cookie: cookie, payload: []))
    #expect(success.count == structured.successBytes)
  }

  @Test func holeChunkHasOffsetAndLength() {
    let bytes = encoded {
      structured.encodeHole(cookie: cookie, offset: 0x1_0000, holeBytes: 0x0203_0405, isLast: true, into: &$0, at: $1)
    }
    #expect(bytes.count == ReplyEncoder.holeBytes)
    #expect(
      Chunk.parse(bytes)
        == .structured(
          flags: 1, type: .offsetHole, cookie: cookie, payload: [0, 0, 0, 0, 0, 1, 0, 0, 2, 3, 4, 5]))
  }

  @Test func readOfNothingHasNoDataChunk() {
    for encoder in [simple, structured] {
      let bytes = encoded { encoder.encodeReadHeader(cookie: cookie, offset: 5, dataBytes: 0, into: &$0, at: $1) }
      #expect(bytes == encoded { encoder.encodeSuccess(cookie: cookie, into: &$0, at: $1) })
    }
  }

  @Test(arguments: Command.allCases)
  func structuredErrorsCarryText(command: Command) {
    let bytes = encoded {
      structured.encodeError(
        cookie: cookie, command: command, error: .io, text: "the disk is gone", offset: nil, into: &$0, at: $1)
    }
    let text = Array("the disk is gone".utf8)
    #expect(
      Chunk.parse(bytes)
        == .structured(
          flags: 1, type: .error, cookie: cookie, payload: [0, 0, 0, 5, 0, UInt8(text.count)] + text))
  }

  @Test func structuredReadErrorsAreNeverSimple() {
    let refusal = Session.test().judge(.read, 0, 512, flags: 0x8000)?.refusal
    let bytes = encoded { span, start in
      refusal.map { structured.encodeRefusal($0, into: &span, at: start) } ?? 0
    }
    guard case .structured(_, .error, 7, let payload) = Chunk.parse(bytes) else {
      Issue.record("an early EINVAL has to be a chunk")
      return
    }
    #expect(payload.prefix(4) == [0, 0, 0, 22])
  }

  @Test(arguments: Command.allCases)
  func errorOffsetGoesWithCommandsThatHaveOne(command: Command) {
    let bytes = encoded {
      structured.encodeError(
        cookie: cookie, command: command, error: .noSpace, text: "full", offset: 0x99, into: &$0, at: $1)
    }
    #expect(bytes.count == structured.errorBytes(command: command, text: "full", offset: 0x99))
    let message: [UInt8] = [0, 0, 0, 28, 0, 4] + Array("full".utf8)
    let expected: Chunk =
      switch command {
      case .read, .write, .trim, .cache, .writeZeroes, .blockStatus:
        .structured(flags: 1, type: .errorOffset, cookie: cookie, payload: message + [0, 0, 0, 0, 0, 0, 0, 0x99])
      case .flush, .disconnect: .structured(flags: 1, type: .error, cookie: cookie, payload: message)
      }
    #expect(Chunk.parse(bytes) == expected)
  }

  @Test func unknownCommandHasNoErrorOffset() {
    let bytes = encoded {
      structured.encodeError(cookie: cookie, command: nil, error: .invalid, text: "", offset: 3, into: &$0, at: $1)
    }
    #expect(
      Chunk.parse(bytes) == .structured(flags: 1, type: .error, cookie: cookie, payload: [0, 0, 0, 22, 0, 0]))
  }

  @Test func longErrorTextsAreCut() {
    for padding in 0..<5 {
      let text = String(repeating: "x", count: padding) + String(repeating: "🚀", count: 500)
      let bytes = encoded {
        structured.encodeError(cookie: 0, command: .read, error: .io, text: text, offset: 1, into: &$0, at: $1)
      }
      #expect(bytes.count <= ReplyEncoder.errorBytesMax)
      #expect(bytes.count == structured.errorBytes(command: .read, text: text, offset: 1))
      let cut = bytes.dropFirst(26).dropLast(8)
      #expect(cut.count > ReplyEncoder.textBytesMax - 4)
      #expect(String(validating: cut, as: UTF8.self) != nil)
    }
  }

  @Test func everyRefusalFitsItsReservation() {
    for reason in RefusalReason.allCases {
      #expect(!reason.text.isEmpty)
      let refusal = Refusal(
        cookie: 1, command: .write, error: .invalid, reason: reason, offset: 12, payloadBytes: 0)
      let bytes = encoded { structured.encodeRefusal(refusal, into: &$0, at: $1) }
      #expect(bytes.count <= ReplyEncoder.errorBytesMax)
      #expect(bytes.dropFirst(26).dropLast(8) == ArraySlice(Array(reason.text.utf8)))
    }
  }

  @Test func blockStatusIsOneChunkOfDescriptors() {
    let descriptors = [
      StatusDescriptor(lengthBytes: 0x1000, status: []),
      StatusDescriptor(lengthBytes: 0x2000, status: [.hole, .zero]),
      StatusDescriptor(lengthBytes: 1, status: .zero),
    ]
    let bytes = encoded {
      structured.encodeBlockStatus(cookie: cookie, contextID: 0x55, descriptors: descriptors.span, into: &$0, at: $1)
    }
    #expect(bytes.count == ReplyEncoder.blockStatusBytes(descriptors: 3))
    let payload: [UInt8] = [
      0, 0, 0, 0x55, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2,
    ]
    #expect(
      Chunk.parse(bytes) == .structured(flags: 1, type: .blockStatus, cookie: cookie, payload: payload))
  }
}
