"""The sections of a report, one file a question. Each gives a `Section`, or None if no run says anything to it."""
