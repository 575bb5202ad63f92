"""The only code here that knows Airflow. Heavy imports stay inside the functions that tasks run."""
