"""The stager: reads the event log, files each touchpoint under a customer, and keeps every stage."""
