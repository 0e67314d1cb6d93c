"""What starts and stops workers, each behind `headrace.scaler.actuator`."""
