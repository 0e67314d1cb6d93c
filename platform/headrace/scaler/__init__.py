"""The scaler: looks at what is deployed and what runs, decides, and lets an actuator act."""
