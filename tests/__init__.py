"""Tests of Rejse, from pure logic to the whole product under faults."""
