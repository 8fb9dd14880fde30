// The one table of what comes with each option and which are refused whatever comes with them.

/// What the data of an option is to the server.
enum OptionData {
  /// Skipped by its length, whatever it is.
  case ignored
  /// Must not be there.
  case none
  /// Read, so all of it has to be in memory.
  case parsed
}

struct OptionRule {
  var data: OptionData
  /// Known, but never granted.
  var refusal: OptionError?
}

extension Option {
  /// Spec: "Option types"; NOTLS mode for STARTTLS.
  var rule: OptionRule {
    switch self {
    case .exportName, .info, .go, .listMetaContext, .setMetaContext: OptionRule(data: .parsed)
    case .list, .structuredReply: OptionRule(data: .none)
    case .abort: OptionRule(data: .ignored)
    case .startTLS:
      OptionRule(data: .ignored, refusal: OptionError(.errorUnsupported, "this server does not support TLS"))
    case .peekExport:
      OptionRule(data: .ignored, refusal: OptionError(.errorUnsupported, "this option was withdrawn"))
    case .extendedHeaders:
      OptionRule(data: .ignored, refusal: OptionError(.errorUnsupported, "extended headers are not supported"))
    }
  }
}
